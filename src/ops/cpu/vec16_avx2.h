// Sixteen floats as two AVX2 registers; see vec16_scalar.h for what each name means.
//
// No function here may be emitted under a name that another file shares (the linker could pick
// this file's copy for a machine without AVX2): everything is inline in an unnamed namespace.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "gemm/numerics.h"
#include "ops/cpu/ops.h"

#define LIQUIDGEMM_INLINE [[maybe_unused]] __attribute__((always_inline)) inline

namespace liquidgemm {
namespace {

struct Vec {
  __m256 low, high;
};
struct Bits {
  __m256i low, high;
};

// 16 registers: at most 12 sums beside the values and the weight.
constexpr int value_vectors(int queries) { return queries == 1 ? 4 : queries == 2 ? 2 : 1; }
constexpr int score_vectors(int queries) { return value_vectors(queries); }

// All ones in lanes first .. first + 7 that are below n.
LIQUIDGEMM_INLINE __m256i lanes(std::int64_t n, int first) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n) - first), index);
}

LIQUIDGEMM_INLINE Vec set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
LIQUIDGEMM_INLINE Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
LIQUIDGEMM_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
LIQUIDGEMM_INLINE void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
LIQUIDGEMM_INLINE Vec load_partial(const float* p, std::int64_t n) {
  return {_mm256_maskload_ps(p, lanes(n, 0)), _mm256_maskload_ps(p + 8, lanes(n, 8))};
}
LIQUIDGEMM_INLINE void store_partial(float* p, Vec a, std::int64_t n) {
  _mm256_maskstore_ps(p, lanes(n, 0), a.low);
  _mm256_maskstore_ps(p + 8, lanes(n, 8), a.high);
}
LIQUIDGEMM_INLINE Vec first_lanes(Vec a, Vec b, std::int64_t n) {
  return {_mm256_blendv_ps(b.low, a.low, _mm256_castsi256_ps(lanes(n, 0))),
          _mm256_blendv_ps(b.high, a.high, _mm256_castsi256_ps(lanes(n, 8)))};
}

LIQUIDGEMM_INLINE Vec add(Vec a, Vec b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec sub(Vec a, Vec b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec mul(Vec a, Vec b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec div(Vec a, Vec b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
LIQUIDGEMM_INLINE Vec greater(Vec a, Vec b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec less(Vec a, Vec b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
LIQUIDGEMM_INLINE Vec negate(Vec a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.low, sign), _mm256_xor_ps(a.high, sign)};
}
LIQUIDGEMM_INLINE Vec round(Vec a) {
  return {_mm256_round_ps(a.low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

// 2^n for whole n.
LIQUIDGEMM_INLINE __m256 power_of_two(__m256 n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
LIQUIDGEMM_INLINE Vec times_power_of_two(Vec a, Vec n) {
  return mul(a, {power_of_two(n.low), power_of_two(n.high)});
}
// Vectors that exp and what is around it takes step by step together: as many as registers allow.
constexpr int kExpTogether = 2;

LIQUIDGEMM_INLINE __m256 low_half(Vec a) { return a.low; }
LIQUIDGEMM_INLINE __m256 high_half(Vec a) { return a.high; }

LIQUIDGEMM_INLINE Bits magnitude(Vec a) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  return {_mm256_and_si256(_mm256_castps_si256(a.low), mask),
          _mm256_and_si256(_mm256_castps_si256(a.high), mask)};
}
LIQUIDGEMM_INLINE Bits larger(Bits a, Bits b) {
  return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
}
LIQUIDGEMM_INLINE std::int32_t largest(Bits a) {
  const __m256i eight = _mm256_max_epi32(a.low, a.high);
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}

LIQUIDGEMM_INLINE Vec load_f16(const std::uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
LIQUIDGEMM_INLINE void store_eight_f16(std::uint16_t* p, __m256 a) {
  // The hardware keeps a NaN's payload; the contract has one NaN of each sign.
  const __m128i half = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m128i nan16 =
      _mm_packs_epi32(_mm256_castsi256_si128(nan), _mm256_extracti128_si256(nan, 1));
  const __m128i quiet =
      _mm_or_si128(_mm_and_si128(half, _mm_set1_epi16(-0x8000)), _mm_set1_epi16(0x7E00));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_blendv_epi8(half, quiet, nan16));
}
LIQUIDGEMM_INLINE void store_f16(std::uint16_t* p, Vec a) {
  store_eight_f16(p, a.low);
  store_eight_f16(p + 8, a.high);
}
LIQUIDGEMM_INLINE __m256 load_eight_bf16(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
LIQUIDGEMM_INLINE Vec load_bf16(const Bf16* p) {
  return {load_eight_bf16(p), load_eight_bf16(p + 8)};
}
// As bfloat16 in the lower half of each lane.
LIQUIDGEMM_INLINE __m256i bf16_bits(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i cut = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(cut, _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i quiet = _mm256_or_si256(cut, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
}
LIQUIDGEMM_INLINE void store_bf16(Bf16* p, Vec a) {
  const __m256i words = _mm256_packus_epi32(bf16_bits(a.low), bf16_bits(a.high));
  // The pack works on 128-bit halves.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xD8));
}
LIQUIDGEMM_INLINE Vec load_int8(const std::int8_t* p) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)))};
}
LIQUIDGEMM_INLINE void store_quantized(std::int8_t* p, Vec a, float reciprocal) {
  Vec x = round(mul(a, set1(reciprocal)));
  x = greater(set1(-127.0f), less(set1(127.0f), x));
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
  const __m256i order = _mm256_permute4x64_epi64(words, 0xD8);  // the pack works on 128-bit halves
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi16(_mm256_castsi256_si128(order), _mm256_extracti128_si256(order, 1)));
}

}  // namespace
}  // namespace liquidgemm

#include "ops/cpu/vec16_exp.h"
#include "ops/cpu/vec16_fold.h"
