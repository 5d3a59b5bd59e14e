// The softmax of attention_tile.cuh: from dot products to probabilities.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "gemm/cuda/ptx/thread.h"
#include "ops/cuda/attention_state.cuh"

namespace liquidgemm::cuda {

// Dots in units of kKeyUnit to scores, with the parameters of the page's keys (shared memory). A
// power of two in a factor changes no bits of the product. Where kMasked, tokens
// from visible[n][c] on are -inf.
template <KvElement kElement, int kTiles, bool kMasked, int kColumns = 2>
__device__ __forceinline__ void scale_dots(PageScores<kTiles>& scores,
                                           const std::uint32_t* parameters, int g,
                                           float softmax_scale, const PerRow<kTiles>& q_sum,
                                           const int (&visible)[kTiles][2]) {
  const float factor = softmax_scale * numerics::kLog2E;
  const float factor_of_dot = factor * (1.0f / kKeyUnit<kElement>);
  PerRow<kTiles> of_zero;
  if constexpr (kElement == KvElement::kInt4) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) of_zero[n][c] = q_sum[n][c] * factor;
    }
  }
#pragma unroll
  for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = 16 * i + 8 * half + g;
      float scale = factor_of_dot;
      float zero = 0.0f;
      if constexpr (kElement == KvElement::kInt8) {
        scale = __uint_as_float(parameters[token]) * factor_of_dot;
      } else if constexpr (kElement == KvElement::kInt4) {
        const std::uint32_t pair = parameters[token];
        scale = low_half(pair);
        zero = fmaf(-kStoredZero<kElement>, scale, high_half(pair));
        scale = scale * factor_of_dot;
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          float& score = scores[i][n][2 * half + c];
          if constexpr (kElement == KvElement::kInt4) {
            score = fmaf(score, scale, of_zero[n][c] * zero);
          } else {
            score = score * scale;
          }
          if (kMasked && token >= visible[n][c]) score = -__int_as_float(0x7F800000);
        }
      }
    }
  }
}

// Each row's largest score of the page, in every lane that has the row.
template <int kTiles, int kColumns = 2>
__device__ __forceinline__ void largest_scores(const PageScores<kTiles>& scores,
                                               PerRow<kTiles>& largest) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float of_lane = scores[0][n][c];
#pragma unroll
      for (int i = 0; i < kPageTiles; ++i) {
        of_lane = fmaxf(of_lane, fmaxf(scores[i][n][c], scores[i][n][2 + c]));
      }
      largest[n][c] = max_over_tokens(of_lane);
    }
  }
}

// The parameters of the values of a lane's tokens 16 i + 8 half + g.
template <KvElement kElement>
struct ValueParameters {
  std::uint32_t words[kPageTiles][2];

  __device__ __forceinline__ void load(const std::uint32_t* parameters, int g) {
    if constexpr (kv_has_scales(kElement)) {
#pragma unroll
      for (int i = 0; i < kPageTiles; ++i) {
        words[i][0] = parameters[16 * i + g];
        words[i][1] = parameters[16 * i + 8 + g];
      }
    }
  }

  __device__ __forceinline__ float scale(int i, int half) const {
    return kElement == KvElement::kInt4 ? low_half(words[i][half])
                                        : __uint_as_float(words[i][half]);
  }
  __device__ __forceinline__ float zero(int i, int half) const {  // int4
    return high_half(words[i][half]);
  }

  // The largest scale of a token before `visible`, of this lane's, as bits of a float.
  template <bool kMasked>
  __device__ __forceinline__ std::uint32_t largest_scale(int g, int visible) const {
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool seen = !kMasked || 16 * i + 8 * half + g < visible;
        const std::uint32_t word = seen ? words[i][half] : 0u;
        // Of int4 that of each half; as floats they would be in the same order.
        largest = kElement == KvElement::kInt4 ? __vmaxu2(largest, word) : max(largest, word);
      }
    }
    return kElement == KvElement::kInt4 ? __float_as_uint(low_half(largest)) : largest;
  }
};

// Two numbers as operands of multiply_add.
template <KvElement kElement>
__device__ __forceinline__ auto round_pair(float low, float high) {
  if constexpr (kElement == KvElement::kBf16) {
    return __floats2bfloat162_rn(low, high);
  } else {
    return __floats2half2_rn(low, high);
  }
}

// Of each row: E' as kept in SplitState.
template <int kTiles>
using Exponents = std::uint32_t[kTiles][2];

// Scores to probabilities, with each row's m' and E', and what a lane's tokens add to l and z.
template <KvElement kElement, int kTiles, bool kMasked, int kColumns = 2>
__device__ __forceinline__ void weigh_tokens(
    const PageScores<kTiles>& scores, const ValueParameters<kElement>& parameters, int g,
    const int (&visible)[kTiles][2], const PerRow<kTiles>& m, const Exponents<kTiles>& exponents,
    PerRow<kTiles>& p_sum, PerRow<kTiles>& z_sum, PageProbabilities<kTiles>& probabilities) {
  PerRow<kTiles> inverse, stored_zero;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      p_sum[n][c] = z_sum[n][c] = 0.0f;
      inverse[n][c] = inverse_power_of(exponents[n][c]);
      stored_zero[n][c] = -kStoredZero<kElement>;
      if constexpr (kv_has_scales(kElement)) {
        stored_zero[n][c] = power_of(exponents[n][c]) * -kStoredZero<kElement>;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        float weight[2] = {0.0f, 0.0f};
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const bool seen = !kMasked || 16 * i + 8 * half + g < visible[n][c];
          float p = exp_of_difference(scores[i][n][2 * half + c] - m[n][c]);
          if (!seen) p = 0.0f;
          p_sum[n][c] = p_sum[n][c] + p;
          weight[c] = p;
          if constexpr (kElement == KvElement::kInt4) {
            if (seen) z_sum[n][c] = fmaf(p, parameters.zero(i, half), z_sum[n][c]);
          }
          if constexpr (kv_has_scales(kElement)) {
            weight[c] = seen ? p * (parameters.scale(i, half) * inverse[n][c]) : 0.0f;
          }
        }
        const auto pair = round_pair<kElement>(weight[0], weight[1]);
        if constexpr (!kv_is_float(kElement)) {
          const float2 rounded = __half22float2(pair);
          z_sum[n][0] = fmaf(rounded.x, stored_zero[n][0], z_sum[n][0]);
          if (kColumns == 2) z_sum[n][1] = fmaf(rounded.y, stored_zero[n][1], z_sum[n][1]);
        }
        probabilities[i][n][half] =
            ptx::transpose_8x8(*reinterpret_cast<const std::uint32_t*>(&pair));
      }
    }
  }
}

// Scores to probabilities; `state` moves on, and o is to be multiplied with `factor` before the
// page's values are added.
template <KvElement kElement, int kTiles, bool kUniform, bool kMasked>
__device__ __forceinline__ void page_softmax(PageScores<kTiles>& scores,
                                             const std::uint32_t* parameters, int g,
                                             const int (&visible)[kTiles][2],
                                             SplitState<kTiles, kUniform>& state,
                                             PerRow<kTiles>& factor,
                                             PageProbabilities<kTiles>& probabilities) {
  // A page that all rows see leaves all rows with the same exponent.
  constexpr bool kOneExponent = kUniform || !kMasked;
  constexpr bool kZeros = !kv_is_float(kElement);
  constexpr bool kScaled = kv_has_scales(kElement);

  ValueParameters<kElement> value;
  value.load(parameters, g);
  PerRow<kTiles> largest;
  largest_scores<kTiles>(scores, largest);
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float m = fmaxf(state.m[n][c], largest[n][c]);
      factor[n][c] = exp_of_difference(state.m[n][c] - m);
      state.m[n][c] = m;
      state.l[n][c] = state.l[n][c] * factor[n][c];
      if constexpr (kZeros) state.z[n][c] = state.z[n][c] * factor[n][c];
    }
  }

  // The exponents, and factors with them.
  Exponents<kTiles> exponents{};
  if constexpr (kScaled && kOneExponent) {
    const std::uint32_t bits = value.template largest_scale<kMasked>(g, visible[0][0]);
    const std::uint32_t before = state.exponent[0];
    const std::uint32_t after = max(before, exponent_class(__reduce_max_sync(kWholeWarp, bits)));
    const float power = power_between(before, after);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      factor[n][0] = factor[n][0] * power;
      factor[n][1] = factor[n][1] * power;
      exponents[n][0] = exponents[n][1] = after;
    }
#pragma unroll
    for (std::uint32_t& e : state.exponent) e = after;
  } else if constexpr (kScaled) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const std::uint32_t bits = value.template largest_scale<kMasked>(g, visible[n][c]);
        const std::uint32_t before = state.exponent_of(n, c);
        const std::uint32_t after = max(before, exponent_class(max_over_tokens(bits)));
        factor[n][c] = factor[n][c] * power_between(before, after);
        state.exponent_of(n, c) = exponents[n][c] = after;
      }
    }
  }

  PerRow<kTiles> p_sum, z_sum;
  weigh_tokens<kElement, kTiles, kMasked>(scores, value, g, visible, state.m, exponents, p_sum,
                                          z_sum, probabilities);
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      state.l[n][c] = state.l[n][c] + p_sum[n][c];
      if constexpr (kZeros) state.z[n][c] = state.z[n][c] + z_sum[n][c];
    }
  }
}

template <int kWidth, int kTiles>
__device__ __forceinline__ void rescale(Outputs<kWidth, kTiles>& o, const PerRow<kTiles>& factor) {
#pragma unroll
  for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) o[j][n][r] = o[j][n][r] * factor[n][r % 2];
    }
  }
}

}  // namespace liquidgemm::cuda
