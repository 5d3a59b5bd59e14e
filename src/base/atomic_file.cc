#include "base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/status_macros.h"

namespace liquidgemm {
namespace {

Status write_error(const std::string& path, const char* what, int error) {
  const std::string message = path + ": cannot " + what + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return resource_exhausted(message + "; nothing was changed, free some space and run it again");
  }
  return io_error(message);
}

Status sync_folder(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return write_error(path, "open its folder", errno);
  // Some file systems do not sync folders (EINVAL): the rename is then as durable as it gets.
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0 && error != EINVAL) return write_error(path, "flush its folder", error);
  return ok_status();
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  // One of its own for every writer: two processes, or two threads of one, may write the same file.
  static std::atomic<unsigned> files{0};
  file.temporary_ =
      path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(files.fetch_add(1));
  file.fd_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) {
    const int error = errno;
    file.temporary_.clear();
    return write_error(path, "create", error);
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      end_(other.end_) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(fd_, other.fd_);
  std::swap(end_, other.end_);
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(std::exchange(temporary_, {}).c_str());
}

Status AtomicFile::reserve(std::uint64_t bytes) {
  const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (error != 0 && error != EINVAL && error != EOPNOTSUPP && error != ENOSYS) {
    return write_error(path_, "reserve space", error);
  }
  return ok_status();
}

Status AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return write_error(path_, "write", errno);
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return ok_status();
}

Status AtomicFile::append(std::string_view text) {
  const std::uint64_t offset = end_;
  end_ += text.size();
  return write_at(offset, std::as_bytes(std::span(text.data(), text.size())));
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return write_error(path_, "flush", errno);
  if (::close(std::exchange(fd_, -1)) != 0) return write_error(path_, "close", errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return write_error(path_, "put the finished file in place", errno);
  }
  temporary_.clear();
  return sync_folder(path_);
}

Status write_file_atomically(const std::string& path, std::string_view text) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  LIQUIDGEMM_RETURN_IF_ERROR(file.append(text));
  return file.commit();
}

}  // namespace liquidgemm
