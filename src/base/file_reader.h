// A file read at any place, from several threads at once, into memory of the caller's. Unlike a
// mapping, what has been read and checked stays as it is whatever happens to the file meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/open_regular.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class FileReader {
 public:
  // Errors: not found, not a regular file, not readable.
  static Result<FileReader> open(const std::string& path);

  const std::string& path() const { return path_; }
  // When it was opened.
  std::uint64_t size() const { return size_; }
  // Fills `into`, or an error: a file that ends before is one.
  Status read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::string path_;
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace liquidgemm
