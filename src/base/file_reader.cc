#include "base/file_reader.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status_macros.h"

namespace liquidgemm {

Result<FileReader> FileReader::open(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(RegularFile file, open_regular(path));
  FileReader reader;
  reader.path_ = path;
  reader.descriptor_ = std::move(file.descriptor);
  reader.size_ = file.size;
  return reader;
}

Status FileReader::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count =
        ::pread(descriptor_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error(path_ + ": cannot read: " + std::strerror(errno));
    if (count == 0) return corrupt(path_ + ": ends too early");
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
  return ok_status();
}

}  // namespace liquidgemm
