// Unsigned integers in the order of the floats, -0 equal to +0 (as sampling on the CPU orders
// them).
#pragma once

#include <cstdint>

namespace liquidgemm::cuda {

//   0x007FFFFF -inf   ...   0x80000000 zero   ...   0xFF800000 +inf
__device__ __forceinline__ std::uint32_t float_key(float x) {
  const std::int32_t bits = __float_as_int(x + 0.0f);
  return static_cast<std::uint32_t>(bits ^ ((bits >> 31) & 0x7FFFFFFF)) ^ 0x80000000u;
}

__device__ __forceinline__ float key_float(std::uint32_t key) {
  const auto bits = static_cast<std::int32_t>(key ^ 0x80000000u);
  return __int_as_float(bits ^ ((bits >> 31) & 0x7FFFFFFF));
}

}  // namespace liquidgemm::cuda
