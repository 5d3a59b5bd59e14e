// 4-bit weights to unsigned codes in AVX-512 registers, and how far ahead of that the packed
// weights are asked for. Only the liquid4_*.cc files that have AVX-512 include this.
#pragma once

#include <immintrin.h>

#include "gemm/cpu/integer_tile_avx512.h"
#include "gemm/cpu/liquid4_groups.h"

namespace liquidgemm::cpu {
namespace {

// 16 bytes, one for each row, to the low byte of each 32-bit lane.
LIQUIDGEMM_INLINE __m512i widen_rows(const std::uint8_t* bytes) {
  return _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
}

// Lines of a group's head and of a chunk.
constexpr int kHeadLines = 1;
constexpr int kChunkLines = 2;

// Where the memory and the multipliers are nearly equally busy, neither may wait for the other:
// much more lies in L2, so that a slow answer of the memory is noticed late (docs/performance.md).
constexpr std::int64_t kFarBytes = 32768;

// How far ahead of a group the requests into L1 and into L2 are.
struct Reach {
  std::int64_t near;
  std::int64_t far;
};
LIQUIDGEMM_INLINE Reach reach_of_group(const WeightStream& stream, const std::uint8_t* packed) {
  return {distance_ahead(stream, packed, kPrefetchBytes),
          distance_ahead(stream, packed, kFarBytes)};
}

template <int kLines, bool kTwice>
LIQUIDGEMM_INLINE void prefetch(const std::uint8_t* packed, const Reach& ahead) {
  LIQUIDGEMM_UNROLL
  for (int line = 0; line < kLines; ++line) {
    if (kTwice) _mm_prefetch(packed + ahead.far + 64 * line, _MM_HINT_T1);
    _mm_prefetch(packed + ahead.near + 64 * line, _MM_HINT_T0);
  }
}

struct GroupHead {
  __m512i step[kVectors];    // s in both 16-bit halves of a row's lane
  __m512i offset[kVectors];  // a in all four bytes of a row's lane
};

LIQUIDGEMM_INLINE GroupHead load_head(const std::uint8_t* head) {
  const __m512i to_halves = _mm512_set1_epi32(static_cast<int>(0x80008000));
  GroupHead result;
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    // A byte-shuffle index with its top bit set gives zero; the others pick within 16 bytes.
    const __m512i lane = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    result.step[v] =
        _mm512_shuffle_epi8(widen_rows(head + 16 * v), _mm512_or_si512(lane, to_halves));
    result.offset[v] = _mm512_shuffle_epi8(widen_rows(head + kPanelRows + 16 * v), lane);
  }
  return result;
}

// q * s + a for 64 codes. Two codes share a 16-bit lane: q * s <= 240 and q * s + a <= 255, so
// neither the product nor the sum carries into the neighbour.
LIQUIDGEMM_INLINE __m512i decode(__m512i codes, const GroupHead& head, int v) {
  return _mm512_add_epi8(_mm512_mullo_epi16(codes, head.step[v]), head.offset[v]);
}

constexpr std::int64_t kChunkCodes = 2 * kCodesPerWord;

// Decodes the 8 k at `packed` to two 4-k steps of codes.
LIQUIDGEMM_INLINE void decode_chunk(const std::uint8_t* packed, const Reach& ahead,
                                    const GroupHead& head, std::uint8_t* codes) {
  const __m512i mask = _mm512_set1_epi8(0x0F);
  prefetch<kChunkLines, true>(packed, ahead);
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const __m512i pairs = _mm512_load_si512(packed + 64 * v);
    const __m512i low = _mm512_and_si512(pairs, mask);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), mask);
    _mm512_store_si512(codes + 64 * v, decode(low, head, v));
    _mm512_store_si512(codes + kCodesPerWord + 64 * v, decode(high, head, v));
  }
}

}  // namespace
}  // namespace liquidgemm::cpu
