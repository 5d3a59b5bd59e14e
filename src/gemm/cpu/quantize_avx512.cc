// Rows to INT8 on AVX-512; quantize_impl.h says what each name means.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

using Floats = __m512;
using Ints = __m512i;
constexpr int kLanes = 16;

// Of the lanes below `n`.
LIQUIDGEMM_INLINE __mmask16 lanes(std::int64_t n) {
  return n >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << n) - 1);
}

LIQUIDGEMM_INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
LIQUIDGEMM_INLINE Floats load_first(const float* p, std::int64_t n) {
  return _mm512_maskz_loadu_ps(lanes(n), p);
}
LIQUIDGEMM_INLINE Ints magnitude(Floats f) {
  return _mm512_and_si512(_mm512_castps_si512(f), _mm512_set1_epi32(0x7FFFFFFF));
}

LIQUIDGEMM_INLINE Ints zeros() { return _mm512_setzero_si512(); }
LIQUIDGEMM_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
LIQUIDGEMM_INLINE Ints larger(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
LIQUIDGEMM_INLINE std::int32_t largest_of(Ints a) { return _mm512_reduce_max_epi32(a); }
LIQUIDGEMM_INLINE std::int32_t sum_of(Ints a) { return _mm512_reduce_add_epi32(a); }

LIQUIDGEMM_INLINE Ints rounded(Floats f, float factor) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(f, _mm512_set1_ps(factor)));
}
LIQUIDGEMM_INLINE Ints clamped(Ints a) {
  return _mm512_max_epi32(_mm512_min_epi32(a, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
}

LIQUIDGEMM_INLINE void store_four(std::int8_t* p, const Ints (&a)[4], Ints& sum) {
  // Packing clamps to -128 .. 127, and works within 128-bit lanes: it leaves four values of each
  // vector side by side.
  const Ints order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  Ints bytes = _mm512_packs_epi16(_mm512_packs_epi32(a[0], a[1]), _mm512_packs_epi32(a[2], a[3]));
  bytes = _mm512_max_epi8(_mm512_permutexvar_epi32(order, bytes), _mm512_set1_epi8(-127));
  _mm512_storeu_si512(p, bytes);
  sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), bytes);
}
LIQUIDGEMM_INLINE void store_first(std::int8_t* p, Ints a, std::int64_t n) {
  _mm512_mask_cvtepi32_storeu_epi8(p, lanes(n), a);
}

}  // namespace
}  // namespace liquidgemm::cpu

// Over the vectors above.
#include "gemm/cpu/quantize_impl.h"

namespace liquidgemm::cpu {

const QuantizeKernel kQuantizeAvx512 = {largest, quantize};

}  // namespace liquidgemm::cpu
