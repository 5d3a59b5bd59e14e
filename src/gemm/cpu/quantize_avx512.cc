// Rows to INT8 on AVX-512: the contract's sequence, 64 values at a time and the last ones by 16.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kLanes = 16;
constexpr int kVectors = 4;  // of one step

LIQUIDGEMM_INLINE __mmask16 lanes(std::int64_t left) {
  return left >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << left) - 1);
}

LIQUIDGEMM_INLINE __m512i magnitude_of(__m512 values) {
  return _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(0x7FFFFFFF));
}

// As integers, magnitudes are ordered like the floats, and infinities and NaN are the largest:
// one maximum answers both questions.
bool largest(const float* x, std::int64_t k, float* result) {
  __m512i most[kVectors];
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kVectors; ++v) most[v] = _mm512_setzero_si512();
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= k; i += kVectors * kLanes) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const float* at = x + i + v * kLanes;
      _mm_prefetch(reinterpret_cast<const char*>(at) + kPrefetchBytes, _MM_HINT_T0);
      most[v] = _mm512_max_epi32(most[v], magnitude_of(_mm512_loadu_ps(at)));
    }
  }
  for (; i < k; i += kLanes) {
    most[0] = _mm512_max_epi32(most[0], magnitude_of(_mm512_maskz_loadu_ps(lanes(k - i), x + i)));
  }
  const int bits = _mm512_reduce_max_epi32(
      _mm512_max_epi32(_mm512_max_epi32(most[0], most[1]), _mm512_max_epi32(most[2], most[3])));
  __builtin_memcpy(result, &bits, sizeof bits);
  return bits < 0x7F800000;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  const __m512 factor = _mm512_set1_ps(reciprocal);
  // Packing works within 128-bit lanes: it leaves four values of each vector side by side.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i low = _mm512_set1_epi8(-127);
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= k; i += kVectors * kLanes) {
    __m512i value[kVectors];
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const float* at = x + i + v * kLanes;
      // Most often the next row follows: it comes while this one is computed.
      _mm_prefetch(reinterpret_cast<const char*>(at + k), _MM_HINT_T1);
      // The conversion rounds to nearest even. Packing clamps to -128 .. 127.
      value[v] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(at), factor));
    }
    __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(value[0], value[1]),
                                       _mm512_packs_epi32(value[2], value[3]));
    bytes = _mm512_max_epi8(_mm512_permutexvar_epi32(order, bytes), low);
    _mm512_storeu_si512(x8 + i, bytes);
    sum = _mm512_dpbusd_epi32(sum, ones, bytes);
  }
  for (; i < k; i += kLanes) {
    const __mmask16 mask = lanes(k - i);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    __m512i value = _mm512_cvtps_epi32(scaled);
    value =
        _mm512_max_epi32(_mm512_min_epi32(value, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
    _mm512_mask_cvtepi32_storeu_epi8(x8 + i, mask, value);
    sum = _mm512_add_epi32(sum, value);
  }
  return _mm512_reduce_add_epi32(sum);
}

}  // namespace

const QuantizeKernel kQuantizeAvx512 = {largest, quantize};

}  // namespace liquidgemm::cpu
