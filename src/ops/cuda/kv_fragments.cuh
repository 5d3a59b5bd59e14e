// Tensor core fragments out of a head page in shared memory.
//
// Keys and values are the A operand of multiply_add (16 tokens, or 16 dimensions, by 16), the
// queries and the probabilities its B operand: eight query heads are a whole tile. With
// g = lane / 4, t = lane % 4 and eighths of a row counted in dimensions (8 or 16 of them):
//
//   scores   S^T[tokens, heads] = K q^T   rows of tile i: tokens 16 i + g, 16 i + 8 + g
//                                         k step s: four dimensions of lane t (load_query)
//   output   O^T[dims, heads] = V^T P^T   rows of tile j: dimensions 2 j, 2 j + 1 of the g-th
//   eighth
//                                         k step u: tokens 16 u + 2 t, + 1, + 8, + 9
//
// Which dimension is which k of the first product is ours to choose, as long as q follows: lane t
// takes what it reads in whole 16-byte chunks.
//
// Codes of int8 and int4 become operands as they are stored, as a number n = code + 128 or
// code + 8: the bits of n in sixteen are the f16 number 2^-24 n, a subnormal one, and tensor cores
// multiply those exactly. Of int4 every other pair of codes stays where it lies in the word, four
// bits higher, and reads 2^-20 n: the first product has k steps of one kind and of the other, in
// turns, which are summed apart; the second one has tiles of outputs of either kind (value_unit).
// What the products have too much, 128 or 8 times the sum of the other operand, attention_tile.cuh
// takes back.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "gemm/cuda/ptx/mma.h"
#include "gemm/cuda/ptx/thread.h"
#include "ops/cuda/kv_page.h"
#include "ops/cuda/ptx/mma_bf16.h"

namespace liquidgemm::cuda {

// d += a * b; a and b in bf16 where the cache is, otherwise in f16.
template <KvElement kElement>
__device__ __forceinline__ void multiply_add(float (&d)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
  if constexpr (kElement == KvElement::kBf16) {
    ptx::mma_bf16(d, a, b);
  } else {
    ptx::mma_f16(d, a, b);
  }
}

// What code 0 is stored as.
template <KvElement kElement>
inline constexpr float kStoredZero = kv_is_int8(kElement)           ? 128.0f
                                     : kElement == KvElement::kInt4 ? 8.0f
                                                                    : 0.0f;
// What the number 1 reads as in the first product; in the odd k steps of int4, sixteen times that.
template <KvElement kElement>
inline constexpr float kKeyUnit = kv_is_float(kElement) ? 1.0f : 0x1p-24f;

// What the outputs of tile j of an eighth are to be multiplied with.
template <KvElement kElement>
__host__ __device__ constexpr float value_unit(int j) {
  if (kv_is_float(kElement)) return 1.0f;
  return kElement == KvElement::kInt4 && j % 2 != 0 ? 0x1p20f : 0x1p24f;
}

namespace detail {

// The nibbles `kPair` and `kPair` + 4 of a word, as they are or, of an odd pair, 16 times that.
template <int kPair>
__device__ __forceinline__ std::uint32_t int4_pair(std::uint32_t word) {
  if constexpr (kPair >= 2) word >>= 8;
  return word & (kPair % 2 == 0 ? 0x000F000Fu : 0x00F000F0u);
}

template <int kWords>
__device__ __forceinline__ void load_words(const std::uint8_t* from,
                                           std::uint32_t (&words)[kWords]) {
  static_assert(kWords == 1 || kWords == 2 || kWords == 4);
  if constexpr (kWords == 1) {
    words[0] = *reinterpret_cast<const std::uint32_t*>(from);
  } else if constexpr (kWords == 2) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    words[0] = two.x;
    words[1] = two.y;
  } else {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    words[0] = four.x;
    words[1] = four.y;
    words[2] = four.z;
    words[3] = four.w;
  }
}

}  // namespace detail

// The part of the keys of tokens g and g + 8 of a tile that a lane reads at once: one chunk of
// each, which serves kSteps k steps.
template <KvElement kElement, int kWidth>
struct KeyChunk {
  static constexpr int kRowBytes = kv_row_bytes(kElement, kWidth);
  static constexpr int kWords = kRowBytes >= 64 ? 4 : 2;  // a token and lane
  static constexpr int kChunks = kRowBytes / (16 * kWords);
  static constexpr int kSteps = kWidth / 16 / kChunks;

  std::uint32_t words[2][kWords];

  // Where a lane's chunk c of token g lies behind the page's keys; tile i is 16 * kRowBytes on.
  static __device__ __forceinline__ int offset(int g, int t, int c) {
    const int byte = g * kRowBytes + (c * 4 + t) * 4 * kWords;
    return (byte / 16 ^ key_swizzle(kRowBytes, g)) * 16 + byte % 16;
  }

  __device__ __forceinline__ void load(const std::uint8_t* tile) {
    detail::load_words(tile, words[0]);
    detail::load_words(tile + 8 * kRowBytes, words[1]);
  }

  // k step s (0 .. kSteps - 1) of the chunk. Unrolled by the caller: s is a constant.
  __device__ __forceinline__ void fragment(int s, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (kv_is_float(kElement)) {
        a[half] = words[half][2 * s];
        a[half + 2] = words[half][2 * s + 1];
      } else if constexpr (kv_is_int8(kElement)) {
        const std::uint32_t word = words[half][s];
        a[half] = ptx::permute_bytes<0x4140>(word, 0);
        a[half + 2] = ptx::permute_bytes<0x4342>(word, 0);
      } else {
        const std::uint32_t word = words[half][s / 2];
        if (s % 2 == 0) {
          a[half] = detail::int4_pair<0>(word);
          a[half + 2] = detail::int4_pair<2>(word);
        } else {
          a[half] = detail::int4_pair<1>(word);
          a[half + 2] = detail::int4_pair<3>(word);
        }
      }
    }
  }
};

// A row of q as operands that fit the steps of KeyChunk: q[s] for step s.
template <KvElement kElement, int kWidth, typename Operands>
__device__ __forceinline__ void load_query(const std::uint8_t* row, int t, const Operands& q) {
  static_assert(KeyChunk<kElement, kWidth>::kSteps % 2 == 0);
#pragma unroll
  for (int s = 0; s < kWidth / 16; s += 2) {
    // Two steps have eight dimensions of this lane next to each other.
    const int dimension = kv_is_float(kElement)  ? s / 2 * 32 + t * 8
                          : kv_is_int8(kElement) ? s / 4 * 64 + t * 16 + s % 4 * 4
                                                 : t * (kWidth / 4) + s * 4;
    if constexpr (kElement == KvElement::kInt4) {
      // Word by word: parts of one load that do not lie side by side in an operand would be copied
      // for every product.
      const auto* eight = reinterpret_cast<const volatile std::uint32_t*>(row + dimension * 2);
      q(s)[0] = eight[0];
      q(s)[1] = eight[2];
      q(s + 1)[0] = eight[1];
      q(s + 1)[1] = eight[3];
    } else {
      std::uint32_t eight[4];
      detail::load_words(row + dimension * 2, eight);
      q(s)[0] = eight[0];
      q(s)[1] = eight[1];
      q(s + 1)[0] = eight[2];
      q(s + 1)[1] = eight[3];
    }
  }
}

// The part of the values of a k step's four tokens that a lane reads at once: up to 16 bytes of its
// eighth of each row, which serve kTiles tiles of dimensions. Of a warp that computes only one of
// kParts parts of each eighth, a part of it.
template <KvElement kElement, int kWidth, int kParts = 1>
struct ValueChunk {
  static constexpr int kRowBytes = kv_row_bytes(kElement, kWidth);
  static constexpr int kBytes = kRowBytes / (8 * kParts);  // a token and lane
  static constexpr bool kHalfWord = kBytes == 2;
  static constexpr int kWords = kBytes >= 16 ? 4 : kHalfWord ? 1 : kBytes / 4;
  static constexpr int kChunks = kBytes > 16 ? kBytes / 16 : 1;
  static constexpr int kTiles = kWidth / (16 * kParts * kChunks);
  static_assert(kBytes >= 2 && (!kHalfWord || kElement == KvElement::kInt4));

  std::uint32_t words[4][kWords];

  // The part of its eighth that lane g of the warp's `part` has: which words lanes take is
  // exchanged so that they lie in different banks.
  static __device__ __forceinline__ int part_of(int g, int part) {
    if constexpr (kParts == 1) return 0;
    if constexpr (kRowBytes == 64) return part ^ (g >> 2 & 1) * (kParts / 2);
    if constexpr (kRowBytes == 128) return part ^ (g >> 1 & (kParts - 1));
    if constexpr (kRowBytes == 256 && kParts == 4) return part ^ (g >> 1 & 1);
    return part;
  }

  // Where chunk c of the part of the g-th eighth of token 2 t + odd lies behind the page's values;
  // the tokens + 8 and the k steps are whole multiples of eight rows on.
  static __device__ __forceinline__ int offset(int g, int t, int odd, int c, int part_of_lane = 0) {
    const int token = 2 * t + odd;
    const int byte = token * kRowBytes + g * (kRowBytes / 8) + part_of_lane * kBytes + c * 16;
    return (byte / 16 ^ value_swizzle(kRowBytes, token)) * 16 + byte % 16 / 4 * 4;
  }

  __device__ __forceinline__ void load(const std::uint8_t* even, const std::uint8_t* odd) {
    detail::load_words(even, words[0]);
    detail::load_words(odd, words[1]);
    detail::load_words(even + 8 * kRowBytes, words[2]);
    detail::load_words(odd + 8 * kRowBytes, words[3]);
  }

  // Zeros for tokens past the end, whose values may be anything: 0 * NaN is NaN. The first token is
  // the one of words[0]. Only f16 and bf16 can hold a NaN.
  __device__ __forceinline__ void clear_from(int end, int first_token) {
    if constexpr (kv_is_float(kElement)) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (first_token + i % 2 + i / 2 * 8 < end) continue;
#pragma unroll
        for (std::uint32_t& word : words[i]) word = 0;
      }
    }
  }

  // Tile j (0 .. kTiles - 1) of the chunk. Unrolled by the caller: j is a constant. Of half words,
  // the upper ones where `upper`.
  __device__ __forceinline__ void fragment(int j, std::uint32_t (&a)[4], bool upper = false) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (kv_is_float(kElement)) {
        const std::uint32_t x = words[2 * half][j];
        const std::uint32_t y = words[2 * half + 1][j];
        a[2 * half] = ptx::permute_bytes<0x5410>(x, y);
        a[2 * half + 1] = ptx::permute_bytes<0x7632>(x, y);
      } else if constexpr (kv_is_int8(kElement)) {
        const std::uint32_t x = words[2 * half][j / 2];
        const std::uint32_t y = words[2 * half + 1][j / 2];
        // Two dimensions of one token, then of the next.
        const std::uint32_t four =
            j % 2 == 0 ? ptx::permute_bytes<0x5410>(x, y) : ptx::permute_bytes<0x7632>(x, y);
        a[2 * half] = four & 0x00FF00FFu;
        a[2 * half + 1] = ptx::permute_bytes<0x4341>(four, 0);
      } else {
        const std::uint32_t x = words[2 * half][j / 4];
        const std::uint32_t y = words[2 * half + 1][j / 4];
        // The half words with the even dimensions of both tokens, and those with the odd ones. Of
        // the upper half of each the upper bytes are brought down, and what lies above is not used.
        const std::uint32_t evens = kHalfWord ? ptx::permute_bytes(x, y, upper ? 0x5511 : 0x5410)
                                              : ptx::permute_bytes<0x5410>(x, y);
        const std::uint32_t odds = kHalfWord ? ptx::permute_bytes(x, y, upper ? 0x7733 : 0x7632)
                                             : ptx::permute_bytes<0x7632>(x, y);
        const int pair = j % 4;
        a[2 * half] = pair == 0   ? detail::int4_pair<0>(evens)
                      : pair == 1 ? detail::int4_pair<1>(evens)
                      : pair == 2 ? detail::int4_pair<2>(evens)
                                  : detail::int4_pair<3>(evens);
        a[2 * half + 1] = pair == 0   ? detail::int4_pair<0>(odds)
                          : pair == 1 ? detail::int4_pair<1>(odds)
                          : pair == 2 ? detail::int4_pair<2>(odds)
                                      : detail::int4_pair<3>(odds);
      }
    }
  }
};

}  // namespace liquidgemm::cuda
