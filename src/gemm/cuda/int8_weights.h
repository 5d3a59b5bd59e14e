// INT8 layers on the W4A8 kernels: the two nibbles of a weight are stacked along K.
//
//   w + 128 = 16 * high + low, high and low 0 .. 15
//
//   columns            0 .. half                half .. 2 half
//   codes              high, padding 0          low, padding 0
//   group step         16                       1                  groups of 128, offset 0
//   activations        x8, padding 0            x8, padding 0
//
// so sum q * s * x8 over both halves is sum (w + 128) * x8, and the kernels' own subtraction of
// 128 * sum x8 leaves sum w * x8. The sum of x8 that they take is that of the k columns, once.
// half is k rounded up to whole groups.
#pragma once

#include <cstdint>

#include "gemm/cuda/layout.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

inline constexpr int kInt8GroupSize = 128;

LIQUIDGEMM_LAYOUT std::int64_t int8_half(std::int64_t k) {
  return (k + kInt8GroupSize - 1) / kInt8GroupSize * kInt8GroupSize;
}
// The K of the stacked layer.
LIQUIDGEMM_LAYOUT std::int64_t int8_stacked_k(std::int64_t k) { return 2 * int8_half(k); }

// All in device memory. The outputs are what pack_weights reads for (n, int8_stacked_k(k), groups
// of 128).
struct Int8WeightArguments {
  const std::int8_t* weight = nullptr;  // [weight_rows, k]
  const float* weight_scale = nullptr;  // [weight_rows]
  std::int64_t weight_rows = 0;
  std::int64_t k = 0;
  std::int64_t n = 0;              // >= weight_rows; rows beyond are zeros with scale 1
  std::uint8_t* packed = nullptr;  // [n, half], 16-byte aligned
  std::uint8_t* step = nullptr;    // [n, 2 * half / 128]
  std::uint8_t* offset = nullptr;  // [n, 2 * half / 128]
  float* channel_scale = nullptr;  // [n]
};
// kUnsupported where the stacked K is more than INT32 sums allow.
Status split_int8_weights(const Int8WeightArguments& arguments, CudaStream stream);

// The activations of such a layer: out[i] = x8[i] | 0 .. 0 | x8[i] | 0 .. 0.
struct Int8ActivationArguments {
  const std::int8_t* x8 = nullptr;  // [m, k], row stride ld
  std::int64_t ld = 0;
  std::int64_t m = 0;
  std::int64_t k = 0;
  std::int8_t* out = nullptr;  // [m, int8_stacked_k(k)], 16-byte aligned
};
Status stack_int8_rows(const Int8ActivationArguments& arguments, CudaStream stream);

}  // namespace liquidgemm::cuda
