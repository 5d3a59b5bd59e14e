// The sequence by which the GPU computes attention for one row (one query head of one token), the
// same in every kernel. A warp computes eight or sixteen rows at once; nothing crosses rows, so a
// row's bits depend on its own query and the tokens it sees.
//
// The context is cut at multiples of 256 tokens (numerics::kAttentionSplit). A split is up to four
// pages of 64 tokens, in ascending order, from m = -inf, l = z = 0, o = 0, E = the smallest:
//
//   dot     q . (codes of k, as they are stored) by tensor cores, f32 sums; with q_sum = the sum of
//           q's elements by tensor cores
//           int8  from -128 * q_sum
//           int4  the sum of two, of the dimensions d with d mod 4 < 2 and of the others
//   score   in units of ln 2, with c = softmax_scale * log2(e):
//           f16   dot * c, and so with bf16 and static int8
//           int8  dot * (k scale * c)
//           int4  fmaf(dot, k scale * c, (q_sum * c) * fmaf(-8, k scale, k zero))
//           and -inf for tokens behind the row's position, whatever the page holds there
//   m'      max(m, the page's largest score);  a = exp2_contract(m - m')
//   p_t     exp2_contract(score_t - m'), 0 behind the row's position
//   E'      max(E, the page's largest exponent of a visible v scale); none with f16, bf16,
//           static int8, where E is 0 and v scale 1
//   w_t     f16(p_t * (v scale * 2^-E')); f16(p_t), bf16(p_t)
//   l       l * a + sum of p_t
//   z       int4  z * a + sum of p_t * (v zero) and w_t * (-8 * 2^E'), token after token
//           int8  z * a + sum of w_t * (-128 * 2^E'), each step an fmaf as with int4
//   o       o * (a * 2^(E - E')), then += w_t * (code as it is stored) by tensor cores
//
// l and z are kept in eight parts: part g has the tokens t with t mod 8 = g, in ascending order.
// The split ends with the parts folded (g with g xor 1, 2, 4), o = o * 2^E and o + z.
// o counts in units of 2^E so that what is rounded to f16 lies near 1 whatever the scales are.
//
// Codes c are stored as c + 8 or c + 128 (kv_page.h), and tensor cores multiply them as they are
// stored. The start of dot, the zero of k and z take back what is too much: 8 or 128 times the sum
// of the other operand, q or w as it is rounded.
//
// With static int8, q has taken in the keys' scales before it was rounded, and O / L is multiplied
// with the values' scales.
//
// Splits combine as gemm/numerics.h says, with exp2_contract.
#pragma once

#include <cstdint>

#include "gemm/cuda/ptx/mma.h"
#include "ops/cuda/attention_output.cuh"
#include "ops/cuda/attention_softmax.cuh"
#include "ops/cuda/attention_state.cuh"
#include "ops/cuda/kv_fragments.cuh"

namespace liquidgemm::cuda {

// The sum of each row's q; with int8 as what its dot products start from.
template <KvElement kElement, int kWidth, int kTiles>
__device__ __forceinline__ void sum_queries(const Queries<kWidth, kTiles>& q,
                                            PerRow<kTiles>& q_sum) {
  const std::uint32_t ones[4] = {0x3C003C00u, 0x3C003C00u, 0x3C003C00u, 0x3C003C00u};
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int s = 0; s < kWidth / 16; ++s) ptx::mma_f16(sums, ones, q[s][n]);
    constexpr float kStart = -kStoredZero<kElement> * kKeyUnit<kElement>;
    constexpr float kFactor = kv_is_int8(kElement) ? kStart : 1.0f;
    q_sum[n][0] = sums[0] * kFactor;
    q_sum[n][1] = sums[1] * kFactor;
  }
}

// A dot product is summed in one chain of k steps, or two that take turns: of int4 the odd steps
// are sixteen times as large.
template <KvElement kElement>
inline constexpr int kDotChains = kElement == KvElement::kInt4 ? 2 : 1;

// Of a tile of dot products, in units of kKeyUnit.
template <KvElement kElement, int kChains>
__device__ __forceinline__ void start_dots(const float (&q_sum)[2], float (&chains)[kChains][4]) {
#pragma unroll
  for (auto& chain : chains) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      chain[r] = kv_is_int8(kElement) ? q_sum[r % 2] : 0.0f;
    }
  }
}
template <int kChains>
__device__ __forceinline__ void end_dots(const float (&chains)[kChains][4], float (&dots)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    dots[r] = chains[0][r];
    if constexpr (kChains == 2) dots[r] = fmaf(chains[1][r], 0.0625f, dots[r]);
  }
}

// The page's keys behind `keys` (shared memory): dot products of all tokens and rows, in units of
// kKeyUnit.
template <KvElement kElement, int kWidth, int kTiles>
__device__ __forceinline__ void page_dots(const std::uint8_t* keys, int g, int t,
                                          const Queries<kWidth, kTiles>& q,
                                          const PerRow<kTiles>& q_sum, PageScores<kTiles>& scores) {
  using Chunk = KeyChunk<kElement, kWidth>;
  // Tiles, and chains of each, whose products take turns, so that none waits for its own last one.
  constexpr int kChains = kDotChains<kElement>;
  constexpr int kTogether = kTiles == 2 ? 1 : kv_is_int8(kElement) ? 4 : 2;
#pragma unroll
  for (int i = 0; i < kPageTiles; i += kTogether) {
    float chains[kTogether][kTiles][kChains][4];
#pragma unroll
    for (int tile = 0; tile < kTogether; ++tile) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) start_dots<kElement>(q_sum[n], chains[tile][n]);
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
            multiply_add<kElement>(chains[tile][n][s % kChains], a, q[c * Chunk::kSteps + s][n]);
          }
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTogether; ++tile) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) end_dots(chains[tile][n], scores[i + tile][n]);
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
      if constexpr (kv_is_float(kElement)) continue;
      const float unit = kv_has_scales(kElement) ? power_of(state.exponent_of(n, c)) : 1.0f;
      const float z = sum_over_tokens(state.z[n][c]);
#pragma unroll
      for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
        for (int r = c; r < 4; r += 2) {
          o[j][n][r] = o[j][n][r] * value_unit<kElement>(j) * unit + z;
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
template <KvElement kElement, int kWidth, int kTiles>
__device__ __forceinline__ void write_row(const Outputs<kWidth, kTiles>& o, const PerRow<kTiles>& l,
                                          int n, int c, int g, const AttentionOutput& output,
                                          std::int64_t row, int kv_head, int head) {
  constexpr int kEighth = kWidth / 8;
#pragma unroll
  for (int d = 0; d < kEighth; d += 4) {
    const float4 four =
        make_float4(o[d / 2][n][c], o[d / 2][n][2 + c], o[d / 2 + 1][n][c], o[d / 2 + 1][n][2 + c]);
    output.write<kElement == KvElement::kInt8Static>(row, kv_head, head, g * kEighth + d, four,
                                                     l[n][c]);
  }
}

}  // namespace liquidgemm::cuda
