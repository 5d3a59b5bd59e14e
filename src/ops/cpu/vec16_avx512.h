// Sixteen floats as one AVX-512 register; see vec16_scalar.h for what each name means.
//
// No function here may be emitted under a name that another file shares (the linker could pick
// this file's copy for a machine without AVX-512): everything is inline in an unnamed namespace.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "gemm/numerics.h"
#include "ops/cpu/ops.h"

#define LIQUIDGEMM_INLINE [[maybe_unused]] __attribute__((always_inline)) inline

namespace liquidgemm {
namespace {

using Vec = __m512;
using Bits = __m512i;

// 32 registers: 16 sums, or 8 when a single query leaves nothing to share.
constexpr int value_vectors(int queries) { return queries <= 2 ? 8 : 4; }
constexpr int score_vectors(int) { return 4; }

LIQUIDGEMM_INLINE __mmask16 lanes(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

LIQUIDGEMM_INLINE Vec set1(float x) { return _mm512_set1_ps(x); }
LIQUIDGEMM_INLINE Vec zero() { return _mm512_setzero_ps(); }
LIQUIDGEMM_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
LIQUIDGEMM_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
LIQUIDGEMM_INLINE Vec load_partial(const float* p, std::int64_t n) {
  return _mm512_maskz_loadu_ps(lanes(n), p);
}
LIQUIDGEMM_INLINE void store_partial(float* p, Vec a, std::int64_t n) {
  _mm512_mask_storeu_ps(p, lanes(n), a);
}
LIQUIDGEMM_INLINE Vec first_lanes(Vec a, Vec b, std::int64_t n) {
  return _mm512_mask_blend_ps(lanes(n), b, a);
}

LIQUIDGEMM_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
LIQUIDGEMM_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
LIQUIDGEMM_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
LIQUIDGEMM_INLINE Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
LIQUIDGEMM_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
LIQUIDGEMM_INLINE Vec greater(Vec a, Vec b) { return _mm512_max_ps(a, b); }
LIQUIDGEMM_INLINE Vec less(Vec a, Vec b) { return _mm512_min_ps(a, b); }
LIQUIDGEMM_INLINE Vec negate(Vec a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }

LIQUIDGEMM_INLINE Vec round(Vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for whole n.
LIQUIDGEMM_INLINE Vec times_power_of_two(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }
// Vectors that exp and what is around it takes step by step together: as many as registers allow.
constexpr int kExpTogether = 8;

LIQUIDGEMM_INLINE __m256 low_half(Vec a) { return _mm512_castps512_ps256(a); }
LIQUIDGEMM_INLINE __m256 high_half(Vec a) { return _mm512_extractf32x8_ps(a, 1); }

LIQUIDGEMM_INLINE Bits magnitude(Vec a) {
  return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7FFFFFFF));
}
LIQUIDGEMM_INLINE Bits larger(Bits a, Bits b) { return _mm512_max_epi32(a, b); }
LIQUIDGEMM_INLINE std::int32_t largest(Bits a) { return _mm512_reduce_max_epi32(a); }

LIQUIDGEMM_INLINE Vec load_f16(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LIQUIDGEMM_INLINE void store_f16(std::uint16_t* p, Vec a) {
  // The hardware keeps a NaN's payload; the contract has one NaN of each sign.
  const __m256i half = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  const __m256i quiet = _mm256_or_si256(_mm256_and_si256(half, _mm256_set1_epi16(-0x8000)),
                                        _mm256_set1_epi16(0x7E00));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_mask_blend_epi16(nan, half, quiet));
}
LIQUIDGEMM_INLINE Vec load_bf16(const Bf16* p) {
  const Bits wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
LIQUIDGEMM_INLINE void store_bf16(Bf16* p, Vec a) {
  const Bits bits = _mm512_castps_si512(a);
  const Bits cut = _mm512_srli_epi32(bits, 16);
  const Bits odd = _mm512_and_si512(cut, _mm512_set1_epi32(1));
  const Bits sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  const Bits quiet = _mm512_or_si512(cut, _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  const Bits rounded = _mm512_mask_blend_epi32(nan, _mm512_srli_epi32(sum, 16), quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
LIQUIDGEMM_INLINE Vec load_int8(const std::int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
LIQUIDGEMM_INLINE void store_quantized(std::int8_t* p, Vec a, float reciprocal) {
  Vec x = round(mul(a, set1(reciprocal)));
  x = greater(set1(-127.0f), less(set1(127.0f), x));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

}  // namespace
}  // namespace liquidgemm

#include "ops/cpu/vec16_exp.h"
#include "ops/cpu/vec16_fold.h"
