#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

// A file descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// O_NONBLOCK: opening a named pipe must not hang; what is not a regular file is refused after.
Status open_regular(const std::string& path, Descriptor& file, std::size_t& size) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) return open_error(path);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) return open_error(path);
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": not a regular file");
  size = static_cast<std::size_t>(info.st_size);
  return ok_status();
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  Descriptor file;
  MappedFile mapped;
  mapped.path_ = path;
  if (Status status = open_regular(path, file, mapped.size_); !status.ok()) return status;
  if (mapped.size_ > 0) {
    void* address = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED) {
      mapped.size_ = 0;
      return io_error(path + ": cannot map into memory: " + std::strerror(errno));
    }
    mapped.data_ = static_cast<const std::byte*>(address);
  }
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::size_t offset, std::size_t size) const {
  if (data_ == nullptr || offset >= size_) return;
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t end = offset + std::min(size, size_ - offset);
  // Only whole pages inside the range: neighbours may still be in use.
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = end == size_ ? end : end / page * page;
  if (first < last) {
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
}

Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes) {
  Descriptor file;
  std::size_t size = 0;
  if (Status status = open_regular(path, file, size); !status.ok()) return status;
  if (size > max_bytes) {
    return resource_exhausted(path + ": " + std::to_string(size) + " bytes, at most " +
                              std::to_string(max_bytes) + " are accepted here");
  }
  std::string text(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(file.fd, text.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error(path + ": cannot read: " + std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  text.resize(done);
  return text;
}

}  // namespace liquidgemm
