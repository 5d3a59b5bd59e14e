// One block of memory, laid out before anything runs and never grown.
#pragma once

#include <cstddef>
#include <cstdint>

#include "liquidgemm/status.h"

namespace liquidgemm {

// Two passes with the same calls: the first (before commit) only counts, the second hands out
// addresses. Every piece is 64-byte aligned. Memory reads as zero until written.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  template <typename T>
  T* take(std::int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

  // Reserves what was counted and starts the second pass. `what` is for the message.
  Status commit(const char* what);
  std::size_t bytes() const { return size_; }

 private:
  void* take_bytes(std::size_t bytes);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t used_ = 0;
};

}  // namespace liquidgemm
