// Folds over the sixteen-lane vector of the including file, vec16_avx2.h or vec16_avx512.h; see
// vec16_scalar.h.
#pragma once

#include <immintrin.h>

namespace liquidgemm {
namespace {

LIQUIDGEMM_INLINE float folded_sum(Vec a) {
  const __m256 eight = _mm256_add_ps(low_half(a), high_half(a));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
LIQUIDGEMM_INLINE float folded_max(Vec a) {
  const __m256 eight = _mm256_max_ps(low_half(a), high_half(a));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

}  // namespace
}  // namespace liquidgemm
