// What the sequence of attention_tile.cuh is made of: exp, powers of two, a lane's share of rows.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "gemm/cuda/ptx/arithmetic.h"
#include "gemm/cuda/ptx/mma.h"
#include "gemm/numerics.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/kv_fragments.cuh"

namespace liquidgemm::cuda {

inline constexpr int kPageTiles = kKvPageTokens / 16;  // of sixteen tokens
inline constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

// numerics::exp2_contract: the same bits in fewer instructions.
__device__ __forceinline__ float exp_of_difference(float x) {
  x = ptx::max_or_nan(x, numerics::kExp2Low);
  const float shifted = x + numerics::kRoundingAddend;
  const float f = x - (shifted - numerics::kRoundingAddend);
  float p = fmaf(numerics::kExp2Factor5, f, numerics::kExp2Factor4);
  p = fmaf(p, f, numerics::kExp2Factor3);
  p = fmaf(p, f, numerics::kExp2Factor2);
  p = fmaf(p, f, numerics::kExp2Factor1);
  p = fmaf(p, f, 1.0f);
  return p * __uint_as_float((__float_as_uint(shifted) << 23) + 0x3F800000u);
}

// ---- Powers of two for the values' scales ------------------------------------------------------

// Scales are classed by their biased exponent e, at most kLargestExponent: 2^E = 2^(e - 126) is
// above every scale of the class; 2^E times a stored zero is finite and 2^-E is normal. (Scales
// above the largest class only come out larger than others.)
inline constexpr std::uint32_t kLargestExponent = 246;

__device__ __forceinline__ std::uint32_t exponent_class(std::uint32_t scale_bits) {
  return min(scale_bits >> 23, kLargestExponent);
}
__device__ __forceinline__ float power_of(std::uint32_t e) {  // 2^E
  return __uint_as_float((e + 1) << 23);
}
__device__ __forceinline__ float inverse_power_of(std::uint32_t e) {  // 2^-E
  return __uint_as_float((253 - e) << 23);
}
// 2^(E of `from` - E of `to`), from <= to; 0 below the normal numbers.
__device__ __forceinline__ float power_between(std::uint32_t from, std::uint32_t to) {
  return to - from >= 127 ? 0.0f : __uint_as_float((127 + from - to) << 23);
}

// ---- A lane's share of rows ------------------------------------------------------------------

// Of each tile of eight rows lane (g, t) has the rows 2 t and 2 t + 1; scores of the tokens
// 16 i + g and 16 i + 8 + g of a page, outputs of the g-th eighth of the dimensions.
template <int kTiles>
using PerRow = float[kTiles][2];

// Scores (d of multiply_add) of a page: [tile of tokens][tile of rows][row of token half].
template <int kTiles>
using PageScores = float[kPageTiles][kTiles][4];

// Probabilities as B operands: [k step of sixteen tokens][tile of rows][2].
template <int kTiles>
using PageProbabilities = std::uint32_t[kPageTiles][kTiles][2];

// q as B operands.
template <int kWidth, int kTiles>
using Queries = std::uint32_t[kWidth / 16][kTiles][2];

// o of a split: [tile of dimensions][tile of rows][4].
template <int kWidth, int kTiles>
using Outputs = float[kWidth / 16][kTiles][4];

// kUniform: all rows of the warp see the same tokens, so that one exponent serves all.
template <int kTiles, bool kUniform>
struct SplitState {
  static constexpr int kExponents = kUniform ? 1 : 2 * kTiles;
  PerRow<kTiles> m, l, z;
  std::uint32_t exponent[kExponents];

  __device__ __forceinline__ void start() {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        m[n][c] = -__int_as_float(0x7F800000);
        l[n][c] = 0.0f;
        z[n][c] = 0.0f;
      }
    }
#pragma unroll
    for (std::uint32_t& e : exponent) e = 0;
  }

  __device__ __forceinline__ std::uint32_t& exponent_of(int n, int c) {
    return exponent[kUniform ? 0 : 2 * n + c];
  }
};

// Over the eight lanes that share t.
__device__ __forceinline__ float max_over_tokens(float value) {
  value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, 4));
  value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, 8));
  return fmaxf(value, __shfl_xor_sync(kWholeWarp, value, 16));
}
__device__ __forceinline__ std::uint32_t max_over_tokens(std::uint32_t value) {
  value = max(value, __shfl_xor_sync(kWholeWarp, value, 4));
  value = max(value, __shfl_xor_sync(kWholeWarp, value, 8));
  return max(value, __shfl_xor_sync(kWholeWarp, value, 16));
}
__device__ __forceinline__ float sum_over_tokens(float value) {
  value = value + __shfl_xor_sync(kWholeWarp, value, 4);
  value = value + __shfl_xor_sync(kWholeWarp, value, 8);
  return value + __shfl_xor_sync(kWholeWarp, value, 16);
}

__device__ __forceinline__ float low_half(std::uint32_t pair) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(pair & 0xFFFFu)));
}
__device__ __forceinline__ float high_half(std::uint32_t pair) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
}

}  // namespace liquidgemm::cuda
