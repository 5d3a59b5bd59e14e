// The sequence by which the GPU computes attention for one row (one query head of one token), the
// same in every kernel. A warp computes eight or sixteen rows at once; nothing crosses rows, so a
// row's bits depend on its own query and the tokens it sees.
//
// The context is cut at multiples of 256 tokens (numerics::kAttentionSplit). A split is up to four
// pages of 64 tokens, in ascending order, from m = -inf, l = z = 0, o = 0, E = the smallest:
//
//   dot     q . k by tensor cores, f32 sums; q and the codes of k are exact in f16
//   score   f16   dot * softmax_scale
//           int8  dot * (k scale * softmax_scale)
//           int4  fmaf(dot, k scale * softmax_scale, q_sum * (k zero * softmax_scale)),
//                 q_sum = the sum of q's elements by tensor cores
//           and -inf for tokens behind the row's position, whatever the page holds there
//   m'      max(m, the page's largest score);  a = exp_contract(m - m')
//   p_t     exp_contract(score_t - m'), 0 behind the row's position
//   E'      max(E, the page's largest exponent of a visible v scale); none with f16
//   l       l * a + sum of p_t;  int4: z = z * a + sum of p_t * (v zero), each step an fmaf
//   o       o * (a * 2^(E - E')), then += f16(p_t * (v scale * 2^-E')) * code by tensor cores
//
// l and z are kept in eight parts: part g has the tokens t with t mod 8 = g, in ascending order.
// The split ends with the parts folded (g with g xor 1, 2, 4), o = o * 2^E and, for int4, o + z.
// o counts in units of 2^E so that what is rounded to f16 lies near 1 whatever the scales are.
// Splits combine as gemm/numerics.h says.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "gemm/cuda/ptx/mma.h"
#include "gemm/numerics.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/kv_fragments.cuh"

namespace liquidgemm::cuda {

inline constexpr int kSplitPages = numerics::kAttentionSplit / kKvPageTokens;
inline constexpr int kPageTiles = kKvPageTokens / 16;  // of sixteen tokens
inline constexpr unsigned kWholeWarp = 0xFFFFFFFFu;

// numerics::exp_contract for what is never above 0, or NaN: the same bits in fewer instructions.
__device__ __forceinline__ float exp_of_difference(float x) {
  x = ptx::max_or_nan(x, numerics::kExpLow);
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
  const float shifted = x * numerics::kLog2E + 0x1.8p+23f;
  const float n = shifted - 0x1.8p+23f;
  float r = x - n * numerics::kLn2High;
  r = r - n * numerics::kLn2Low;
  float p = 0x1.6c16c2p-10f;
  p = p * r + 0x1.111112p-7f;
  p = p * r + 0x1.555556p-5f;
  p = p * r + 0x1.555556p-3f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * __uint_as_float((__float_as_uint(shifted) << 23) + 0x3F800000u);
}

// ---- Powers of two for the values' scales ------------------------------------------------------

// Scales are classed by their biased exponent e, at most kLargestExponent: 2^E = 2^(e - 126) is
// above every scale of the class, and both 2^E and 2^-E are normal.
inline constexpr std::uint32_t kLargestExponent = 252;

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

// Scores (d of mma_f16) of a page: [tile of tokens][tile of rows][row of token half].
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

// The sum of each row's q.
template <int kWidth, int kTiles>
__device__ __forceinline__ void sum_queries(const Queries<kWidth, kTiles>& q,
                                            PerRow<kTiles>& q_sum) {
  const std::uint32_t ones[4] = {0x3C003C00u, 0x3C003C00u, 0x3C003C00u, 0x3C003C00u};
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int s = 0; s < kWidth / 16; ++s) ptx::mma_f16(sums, ones, q[s][n]);
    q_sum[n][0] = sums[0];
    q_sum[n][1] = sums[1];
  }
}

// The page's keys behind `keys` (shared memory): dot products of all tokens and rows.
template <KvElement kElement, int kWidth, int kTiles>
__device__ __forceinline__ void page_dots(const std::uint8_t* keys, int g, int t,
                                          const Queries<kWidth, kTiles>& q,
                                          PageScores<kTiles>& scores) {
  using Chunk = KeyChunk<kElement, kWidth>;
  // Tiles whose products take turns, so that none waits for its own last one.
  constexpr int kTogether = kTiles == 1 ? 2 : 1;
#pragma unroll
  for (int i = 0; i < kPageTiles; i += kTogether) {
#pragma unroll
    for (int tile = 0; tile < kTogether; ++tile) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) scores[i + tile][n][r] = 0.0f;
      }
    }
#pragma unroll
    for (int c = 0; c < Chunk::kChunks; ++c) {
      const std::uint8_t* first = keys + Chunk::offset(g, t, c) + i * 16 * Chunk::kRowBytes;
      Chunk chunks[kTogether];
#pragma unroll
      for (int tile = 0; tile < kTogether; ++tile) {
        chunks[tile].load(first + tile * 16 * Chunk::kRowBytes);
      }
#pragma unroll
      for (int s = 0; s < Chunk::kSteps; ++s) {
#pragma unroll
        for (int tile = 0; tile < kTogether; ++tile) {
          std::uint32_t a[4];
          chunks[tile].fragment(s, a);
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
            ptx::mma_f16(scores[i + tile][n], a, q[c * Chunk::kSteps + s][n]);
          }
        }
      }
    }
  }
}

// Dots to scores, with the parameters of the page's keys (shared memory). Where kMasked, tokens
// from visible[n][c] on are -inf.
template <KvElement kElement, int kTiles, bool kMasked>
__device__ __forceinline__ void scale_dots(PageScores<kTiles>& scores,
                                           const std::uint32_t* parameters, int g,
                                           float softmax_scale, const PerRow<kTiles>& q_sum,
                                           const int (&visible)[kTiles][2]) {
#pragma unroll
  for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = 16 * i + 8 * half + g;
      float scale = softmax_scale;
      float zero = 0.0f;
      if constexpr (kElement == KvElement::kInt8) {
        scale = __uint_as_float(parameters[token]) * softmax_scale;
      } else if constexpr (kElement == KvElement::kInt4) {
        const std::uint32_t pair = parameters[token];
        scale = low_half(pair) * softmax_scale;
        zero = high_half(pair) * softmax_scale;
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
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

  float value_scale[kPageTiles][2];
  float value_zero[kPageTiles][2];
#pragma unroll
  for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = 16 * i + 8 * half + g;
      if constexpr (kElement == KvElement::kInt8) {
        value_scale[i][half] = __uint_as_float(parameters[token]);
      } else if constexpr (kElement == KvElement::kInt4) {
        const std::uint32_t pair = parameters[token];
        value_scale[i][half] = low_half(pair);
        value_zero[i][half] = high_half(pair);
      }
    }
  }

#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float largest = scores[0][n][c];
#pragma unroll
      for (int i = 0; i < kPageTiles; ++i) {
        largest = fmaxf(largest, fmaxf(scores[i][n][c], scores[i][n][2 + c]));
      }
      const float m = fmaxf(state.m[n][c], max_over_tokens(largest));
      factor[n][c] = exp_of_difference(state.m[n][c] - m);
      state.m[n][c] = m;
      state.l[n][c] = state.l[n][c] * factor[n][c];
      if constexpr (kElement == KvElement::kInt4) state.z[n][c] = state.z[n][c] * factor[n][c];
    }
  }

  // The exponents, and factors with them.
  float inverse[kOneExponent ? 1 : 2 * kTiles];
  if constexpr (kScaled) {
    if constexpr (kOneExponent) {
      std::uint32_t bits = 0;
#pragma unroll
      for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const bool seen = !kMasked || 16 * i + 8 * half + g < visible[0][0];
          bits = max(bits, seen ? __float_as_uint(value_scale[i][half]) : 0u);
        }
      }
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
      inverse[0] = inverse_power_of(after);
#pragma unroll
      for (int i = 0; i < kPageTiles; ++i) {
        value_scale[i][0] = value_scale[i][0] * inverse[0];
        value_scale[i][1] = value_scale[i][1] * inverse[0];
      }
    } else {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          std::uint32_t bits = 0;
#pragma unroll
          for (int i = 0; i < kPageTiles; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const bool seen = 16 * i + 8 * half + g < visible[n][c];
              bits = max(bits, seen ? __float_as_uint(value_scale[i][half]) : 0u);
            }
          }
          const std::uint32_t before = state.exponent_of(n, c);
          const std::uint32_t after = max(before, exponent_class(max_over_tokens(bits)));
          factor[n][c] = factor[n][c] * power_between(before, after);
          state.exponent_of(n, c) = after;
          inverse[2 * n + c] = inverse_power_of(after);
        }
      }
    }
  }

  PerRow<kTiles> p_sum;
  PerRow<kTiles> z_sum;
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
        float weight[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const bool seen = !kMasked || 16 * i + 8 * half + g < visible[n][c];
          float p = exp_of_difference(scores[i][n][2 * half + c] - state.m[n][c]);
          if (!seen) p = 0.0f;
          p_sum[n][c] = p_sum[n][c] + p;
          weight[c] = p;
          if constexpr (kElement == KvElement::kInt4) {
            if (seen) z_sum[n][c] = fmaf(p, value_zero[i][half], z_sum[n][c]);
          }
          if constexpr (kScaled) {
            const float scale =
                kOneExponent ? value_scale[i][half] : value_scale[i][half] * inverse[2 * n + c];
            weight[c] = seen ? p * scale : 0.0f;
          }
        }
        const __half2 pair = __floats2half2_rn(weight[0], weight[1]);
        probabilities[i][n][half] =
            ptx::transpose_8x8(*reinterpret_cast<const std::uint32_t*>(&pair));
      }
    }
  }
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

// Adds the page's values behind `values` (shared memory). Where kMasked, tokens from `end` on are
// taken as zeros.
template <KvElement kElement, int kWidth, int kTiles, bool kMasked>
__device__ __forceinline__ void add_page_values(const std::uint8_t* values, int g, int t, int end,
                                                const PageProbabilities<kTiles>& probabilities,
                                                Outputs<kWidth, kTiles>& o) {
  using Chunk = ValueChunk<kElement, kWidth>;
#pragma unroll
  for (int c = 0; c < Chunk::kChunks; ++c) {
    const std::uint8_t* even = values + Chunk::offset(g, t, 0, c);
    const std::uint8_t* odd = values + Chunk::offset(g, t, 1, c);
#pragma unroll
    for (int u = 0; u < kPageTiles; ++u) {
      // Keeps the assembler from loading more than registers can hold.
      if constexpr (kTiles == 2 && Chunk::kChunks == 2) __syncwarp();
      Chunk chunk;
      chunk.load(even + u * 16 * Chunk::kRowBytes, odd + u * 16 * Chunk::kRowBytes);
      if constexpr (kMasked) chunk.clear_from(end, 16 * u + 2 * t);
#pragma unroll
      for (int j = 0; j < Chunk::kTiles; ++j) {
        std::uint32_t a[4];
        chunk.fragment(j, a);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          ptx::mma_f16(o[c * Chunk::kTiles + j][n], a, probabilities[u][n]);
        }
      }
    }
  }
}

// Ends the split: l and o in true units.
template <KvElement kElement, int kWidth, int kTiles, bool kUniform>
__device__ __forceinline__ void end_split(SplitState<kTiles, kUniform>& state,
                                          Outputs<kWidth, kTiles>& o) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      state.l[n][c] = sum_over_tokens(state.l[n][c]);
      if constexpr (kElement == KvElement::kF16) continue;
      const float unit = power_of(state.exponent_of(n, c));
      const float z = kElement == KvElement::kInt4 ? sum_over_tokens(state.z[n][c]) : 0.0f;
#pragma unroll
      for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
        for (int r = c; r < 4; r += 2) {
          o[j][n][r] = o[j][n][r] * unit;
          if constexpr (kElement == KvElement::kInt4) o[j][n][r] = o[j][n][r] + z;
        }
      }
    }
  }
}

// Row c of tile n of (M, L, O), the splits before, takes in the next split's: `m`, `l`, and o(j, r)
// for tile j of dimensions.
template <int kWidth, int kTiles, typename Output>
__device__ __forceinline__ void combine_row(int n, int c, PerRow<kTiles>& m_all,
                                            PerRow<kTiles>& l_all, Outputs<kWidth, kTiles>& o_all,
                                            float m, float l, const Output& o) {
  const float largest = fmaxf(m_all[n][c], m);
  const float x = exp_of_difference(m_all[n][c] - largest);
  const float y = exp_of_difference(m - largest);
  l_all[n][c] = l_all[n][c] * x + l * y;
  m_all[n][c] = largest;
#pragma unroll
  for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
    for (int r = c; r < 4; r += 2) o_all[j][n][r] = o_all[j][n][r] * x + o(j, r) * y;
  }
}

// O / L of row c of tile n, the g-th eighth of the dimensions, to its place in the output.
template <int kWidth, int kTiles>
__device__ __forceinline__ void write_row(const Outputs<kWidth, kTiles>& o, const PerRow<kTiles>& l,
                                          int n, int c, int g, float* row, int head_dim,
                                          bool aligned) {
  constexpr int kEighth = kWidth / 8;
  const float sum = l[n][c];
#pragma unroll
  for (int d = 0; d < kEighth; d += 4) {
    const float4 four = make_float4(o[d / 2][n][c] / sum, o[d / 2][n][2 + c] / sum,
                                    o[d / 2 + 1][n][c] / sum, o[d / 2 + 1][n][2 + c] / sum);
    const int dimension = g * kEighth + d;
    if (aligned && dimension + 4 <= head_dim) {
      *reinterpret_cast<float4*>(row + dimension) = four;
    } else {
      if (dimension < head_dim) row[dimension] = four.x;
      if (dimension + 1 < head_dim) row[dimension + 1] = four.y;
      if (dimension + 2 < head_dim) row[dimension + 2] = four.z;
      if (dimension + 3 < head_dim) row[dimension + 3] = four.w;
    }
  }
}

}  // namespace liquidgemm::cuda
