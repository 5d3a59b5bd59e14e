// Rows to INT8 on AVX-512: the contract's sequence, 16 values at a time.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kLanes = 16;

__mmask16 lanes(std::int64_t left) {
  return left >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << left) - 1);
}

// As integers, magnitudes are ordered like the floats, and infinities and NaN are the largest:
// one maximum answers both questions.
bool largest(const float* x, std::int64_t k, float* result) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i most = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < k; i += kLanes) {
    const __m512 values = _mm512_maskz_loadu_ps(lanes(k - i), x + i);
    most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_castps_si512(values), magnitude));
  }
  const int bits = _mm512_reduce_max_epi32(most);
  __builtin_memcpy(result, &bits, sizeof bits);
  return bits < 0x7F800000;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  const __m512 factor = _mm512_set1_ps(reciprocal);
  const __m512i high = _mm512_set1_epi32(127);
  const __m512i low = _mm512_set1_epi32(-127);
  __m512i sum = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < k; i += kLanes) {
    const __mmask16 mask = lanes(k - i);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    // The conversion rounds to nearest even; |scaled| is at most 127 and a rounding error.
    __m512i value = _mm512_cvtps_epi32(scaled);
    value = _mm512_max_epi32(_mm512_min_epi32(value, high), low);
    _mm512_mask_cvtepi32_storeu_epi8(x8 + i, mask, value);
    sum = _mm512_add_epi32(sum, value);
  }
  return _mm512_reduce_add_epi32(sum);
}

}  // namespace

const QuantizeKernel kQuantizeAvx512 = {largest, quantize};

}  // namespace liquidgemm::cpu
