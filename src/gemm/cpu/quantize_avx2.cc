// Rows to INT8 on AVX2; quantize_impl.h says what each name means.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

using Floats = __m256;
using Ints = __m256i;
constexpr int kLanes = 8;

LIQUIDGEMM_INLINE Floats load(const float* p) { return _mm256_loadu_ps(p); }
LIQUIDGEMM_INLINE Floats load_first(const float* p, std::int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int count = n < kLanes ? static_cast<int>(n) : kLanes;
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
}
LIQUIDGEMM_INLINE Ints magnitude(Floats f) {
  return _mm256_and_si256(_mm256_castps_si256(f), _mm256_set1_epi32(0x7FFFFFFF));
}

LIQUIDGEMM_INLINE Ints zeros() { return _mm256_setzero_si256(); }
LIQUIDGEMM_INLINE Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
LIQUIDGEMM_INLINE Ints larger(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
LIQUIDGEMM_INLINE std::int32_t largest_of(Ints a) {
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), a);
  std::int32_t most = each[0];
  for (const std::int32_t candidate : each) most = candidate > most ? candidate : most;
  return most;
}
LIQUIDGEMM_INLINE std::int32_t sum_of(Ints a) {
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), a);
  std::int32_t sum = 0;
  for (const std::int32_t part : each) sum += part;
  return sum;
}

LIQUIDGEMM_INLINE Ints rounded(Floats f, float factor) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(f, _mm256_set1_ps(factor)));
}
LIQUIDGEMM_INLINE Ints clamped(Ints a) {
  return _mm256_max_epi32(_mm256_min_epi32(a, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}

LIQUIDGEMM_INLINE void store_four(std::int8_t* p, const Ints (&a)[4], Ints& sum) {
  // Packing clamps to -128 .. 127, and works within 128-bit lanes: it leaves four values of each
  // vector side by side.
  const Ints order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  Ints bytes = _mm256_packs_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(a[2], a[3]));
  bytes = _mm256_max_epi8(_mm256_permutevar8x32_epi32(bytes, order), _mm256_set1_epi8(-127));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
  const Ints pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  sum = add(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
LIQUIDGEMM_INLINE void store_first(std::int8_t* p, Ints a, std::int64_t n) {
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), a);
  for (std::int64_t i = 0; i < kLanes && i < n; ++i) p[i] = static_cast<std::int8_t>(each[i]);
}

}  // namespace
}  // namespace liquidgemm::cpu

// Over the vectors above.
#include "gemm/cpu/quantize_impl.h"

namespace liquidgemm::cpu {

const QuantizeKernel kQuantizeAvx2 = {largest, quantize};

}  // namespace liquidgemm::cpu
