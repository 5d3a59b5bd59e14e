// Opening a file for reading, for the classes of src/base that read.
#pragma once

#include <cstddef>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm {

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct RegularFile {
  Descriptor descriptor;
  std::size_t size = 0;
};

// Errors: not found, not a regular file, not readable. A named pipe does not hang.
Result<RegularFile> open_regular(const std::string& path);

}  // namespace liquidgemm
