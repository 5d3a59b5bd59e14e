#include "base/open_regular.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace liquidgemm {
namespace {

Status open_error(const std::string& path) {
  const int error = errno;
  const std::string message = path + ": cannot open: " + std::strerror(error);
  return error == ENOENT || error == ENOTDIR ? not_found(message) : io_error(message);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

// O_NONBLOCK: opening a named pipe must not hang; what is not a regular file is refused after.
Result<RegularFile> open_regular(const std::string& path) {
  RegularFile file;
  file.descriptor = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.descriptor.get() < 0) return open_error(path);
  struct stat info {};
  if (::fstat(file.descriptor.get(), &info) != 0) return open_error(path);
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": not a regular file");
  file.size = static_cast<std::size_t>(info.st_size);
  return file;
}

}  // namespace liquidgemm
