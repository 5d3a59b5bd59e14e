// Division by a constant of the launch, both non-negative 32-bit: a multiplication instead of some
// thirty dependent instructions.
#pragma once

#include <cstdint>

#include "gemm/cuda/layout.h"

namespace liquidgemm::cuda {

// With p = 32 + l bits of 1 / d, rounded up, and d <= 2^l the error stays below 1 / d (Granlund and
// Montgomery, 1994).
struct Divisor {
  std::uint32_t factor = 0;  // 2^(32 + shift) / d, rounded up, without its leading 2^32
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int d) {
    while ((std::int64_t{1} << shift) < d) ++shift;
    const std::uint64_t rest = (std::uint64_t{1} << shift) - static_cast<std::uint64_t>(d);
    factor = static_cast<std::uint32_t>((rest << 32) / static_cast<std::uint64_t>(d) + 1);
  }
  // n < 2^31: the sum fits 32 bits.
  LIQUIDGEMM_LAYOUT int divide(int n) const {
#if defined(__CUDA_ARCH__)
    const std::uint32_t high = __umulhi(static_cast<unsigned>(n), factor);
#else
    const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(n) * factor >> 32);
#endif
    return static_cast<int>((high + n) >> shift);
  }
};

}  // namespace liquidgemm::cuda
