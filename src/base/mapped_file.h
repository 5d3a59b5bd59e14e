// A file mapped read-only, the way checkpoints are read: nothing is copied until it is used, and
// pages that are no longer needed can be given back.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm {

class MappedFile {
 public:
  // Errors: not found, not a regular file, not readable. An empty file maps to an empty span.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Tells the kernel that this range will not be read again soon; reading it still works.
  void release(std::size_t offset, std::size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Whole small files (configs, templates). Larger than max_bytes is an error that names the limit.
Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes);

}  // namespace liquidgemm
