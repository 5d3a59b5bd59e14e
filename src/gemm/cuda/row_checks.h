// What the row kernels ask of their arguments, in the same words everywhere.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// Thread blocks of `of_block` elements that cover `count`.
inline unsigned blocks_for(std::int64_t count, std::int64_t of_block) {
  return static_cast<unsigned>((count + of_block - 1) / of_block);
}

class RowChecks {
 public:
  explicit RowChecks(const char* call) : call_(call) {}

  Status refused(const std::string& what) const {
    return invalid_argument(std::string(call_) + ": " + what);
  }
  Status given(const char* name, const void* pointer, std::uintptr_t alignment = 4) const {
    if (pointer == nullptr) return refused(std::string(name) + " not given (null)");
    if (reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0) return ok_status();
    return refused(std::string(name) + ": not " + std::to_string(alignment) + "-byte aligned");
  }
  Status rows(const char* name, std::int64_t count) const {
    constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();
    if (count >= 1 && count <= kMaxRows) return ok_status();
    return refused(std::string(name) + " is " + std::to_string(count) + ", expected 1 to " +
                   std::to_string(kMaxRows));
  }
  Status width(const char* name, std::int64_t width, std::int64_t multiple) const {
    constexpr std::int64_t kMaxWidth = std::int64_t{1} << 24;
    if (width >= multiple && width % multiple == 0 && width <= kMaxWidth) return ok_status();
    return refused(std::string(name) + " is " + std::to_string(width) +
                   ", expected a multiple of " + std::to_string(multiple) + " between that and " +
                   std::to_string(kMaxWidth));
  }
  // Rows of `width` elements, `ld` elements apart, all beginning at multiples of `alignment` bytes.
  Status matrix(const char* name, const void* data, std::int64_t ld, std::int64_t width,
                std::int64_t element_bytes, std::int64_t alignment) const {
    if (Status status = given(name, data, static_cast<std::uintptr_t>(alignment)); !status.ok()) {
      return status;
    }
    if (ld >= width && ld * element_bytes % alignment == 0) return ok_status();
    return refused(std::string(name) + ": a row stride of " + std::to_string(ld) + " for " +
                   std::to_string(width) + " columns; rows must begin at multiples of " +
                   std::to_string(alignment) + " bytes");
  }

 private:
  const char* call_;
};

}  // namespace liquidgemm::cuda
