// The softmax of attention_tile.cuh: from dot products to probabilities.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "gemm/cuda/ptx/thread.h"
#include "ops/cuda/attention_state.cuh"

namespace liquidgemm::cuda {

// Dots to scores, with the parameters of the page's keys (shared memory). Where kMasked, tokens
// from visible[n][c] on are -inf.
template <KvElement kElement, int kTiles, bool kMasked, int kColumns = 2>
__device__ __forceinline__ void scale_dots(PageScores<kTiles>& scores,
                                           const std::uint32_t* parameters, int g,
                                           float softmax_scale, const PerRow<kTiles>& q_sum,
                                           const int (&visible)[kTiles][2]) {
  const float factor = softmax_scale * numerics::kLog2E;
#pragma unroll
  for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = 16 * i + 8 * half + g;
      float scale = factor;
      float zero = 0.0f;
      if constexpr (kElement == KvElement::kInt8) {
        scale = __uint_as_float(parameters[token]) * factor;
      } else if constexpr (kElement == KvElement::kInt4) {
        const std::uint32_t pair = parameters[token];
        scale = low_half(pair) * factor;
        zero = high_half(pair) * factor;
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          float& score = scores[i][n][2 * half + c];
          if constexpr (kElement == KvElement::kInt4) {
            score = fmaf(score, scale, q_sum[n][c] * zero);
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
  float scale[kPageTiles][2];
  float zero[kPageTiles][2];  // int4

  __device__ __forceinline__ void load(const std::uint32_t* parameters, int g) {
#pragma unroll
    for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int token = 16 * i + 8 * half + g;
        if constexpr (kElement == KvElement::kInt8) {
          scale[i][half] = __uint_as_float(parameters[token]);
        } else if constexpr (kElement == KvElement::kInt4) {
          const std::uint32_t pair = parameters[token];
          scale[i][half] = low_half(pair);
          zero[i][half] = high_half(pair);
        }
      }
    }
  }

  // The largest scale of a token before `visible`, of this lane's, as bits.
  template <bool kMasked>
  __device__ __forceinline__ std::uint32_t largest_scale(int g, int visible) const {
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool seen = !kMasked || 16 * i + 8 * half + g < visible;
        bits = max(bits, seen ? __float_as_uint(scale[i][half]) : 0u);
      }
    }
    return bits;
  }

  // Scales in units of 2^E.
  __device__ __forceinline__ void divide_by_power(std::uint32_t e) {
    const float inverse = inverse_power_of(e);
#pragma unroll
    for (int i = 0; i < kPageTiles; ++i) {
      scale[i][0] = scale[i][0] * inverse;
      scale[i][1] = scale[i][1] * inverse;
    }
  }
};

// Scores to probabilities, with each row's m', and their sums over a lane's tokens. Rows are in
// units of their own `inverse`, where it is given, or `parameters` are in units of the page's.
template <KvElement kElement, int kTiles, bool kMasked, int kColumns = 2>
__device__ __forceinline__ void weigh_tokens(const PageScores<kTiles>& scores,
                                             const ValueParameters<kElement>& parameters, int g,
                                             const int (&visible)[kTiles][2],
                                             const PerRow<kTiles>& m, const float* inverse,
                                             PerRow<kTiles>& p_sum, PerRow<kTiles>& z_sum,
                                             PageProbabilities<kTiles>& probabilities) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) p_sum[n][c] = z_sum[n][c] = 0.0f;
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
            if (seen) z_sum[n][c] = fmaf(p, parameters.zero[i][half], z_sum[n][c]);
          }
          if constexpr (kElement != KvElement::kF16) {
            const float scale = inverse == nullptr ? parameters.scale[i][half]
                                                   : parameters.scale[i][half] * inverse[2 * n + c];
            weight[c] = seen ? p * scale : 0.0f;
          }
        }
        const __half2 pair = __floats2half2_rn(weight[0], weight[1]);
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
  constexpr bool kScaled = kElement != KvElement::kF16;

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
      if constexpr (kElement == KvElement::kInt4) state.z[n][c] = state.z[n][c] * factor[n][c];
    }
  }

  // The exponents, and factors with them.
  float inverse[2 * kTiles];
  if constexpr (kScaled && kOneExponent) {
    const std::uint32_t bits = value.template largest_scale<kMasked>(g, visible[0][0]);
    const std::uint32_t before = state.exponent[0];
    const std::uint32_t after = max(before, exponent_class(__reduce_max_sync(kWholeWarp, bits)));
    const float power = power_between(before, after);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      factor[n][0] = factor[n][0] * power;
      factor[n][1] = factor[n][1] * power;
    }
#pragma unroll
    for (std::uint32_t& e : state.exponent) e = after;
    value.divide_by_power(after);
  } else if constexpr (kScaled) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const std::uint32_t bits = value.template largest_scale<kMasked>(g, visible[n][c]);
        const std::uint32_t before = state.exponent_of(n, c);
        const std::uint32_t after = max(before, exponent_class(max_over_tokens(bits)));
        factor[n][c] = factor[n][c] * power_between(before, after);
        state.exponent_of(n, c) = after;
        inverse[2 * n + c] = inverse_power_of(after);
      }
    }
  }

  PerRow<kTiles> p_sum, z_sum;
  weigh_tokens<kElement, kTiles, kMasked>(scores, value, g, visible, state.m,
                                          kScaled && !kOneExponent ? inverse : nullptr, p_sum,
                                          z_sum, probabilities);
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      state.l[n][c] = state.l[n][c] + p_sum[n][c];
      if constexpr (kElement == KvElement::kInt4) state.z[n][c] = state.z[n][c] + z_sum[n][c];
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
