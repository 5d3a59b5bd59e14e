// Lays fields out in one block of memory, each at a fixed place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace liquidgemm {

// Hands out pieces of a block, one behind another, 256-byte aligned as the block is. Without a
// block it only counts, and fields stay as they are.
class Pieces {
 public:
  explicit Pieces(void* base) : base_(static_cast<std::byte*>(base)) {}

  template <typename T>
  void take(T*& field, std::int64_t count) {
    if (base_ != nullptr) field = reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace liquidgemm
