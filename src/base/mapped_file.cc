#include "base/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/open_regular.h"
#include "base/status_macros.h"

namespace liquidgemm {

Result<MappedFile> MappedFile::open(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const RegularFile file, open_regular(path));
  MappedFile mapped;
  mapped.path_ = path;
  mapped.size_ = file.size;
  if (mapped.size_ > 0) {
    void* address = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, file.descriptor.get(), 0);
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
  LIQUIDGEMM_ASSIGN_OR_RETURN(const RegularFile file, open_regular(path));
  const std::size_t size = file.size;
  if (size > max_bytes) {
    return resource_exhausted(path + ": " + std::to_string(size) + " bytes, at most " +
                              std::to_string(max_bytes) + " are accepted here");
  }
  std::string text(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(file.descriptor.get(), text.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error(path + ": cannot read: " + std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  text.resize(done);
  return text;
}

}  // namespace liquidgemm
