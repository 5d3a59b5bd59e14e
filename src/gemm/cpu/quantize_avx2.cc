// Rows to INT8 on AVX2: the contract's sequence, 32 values at a time and the last ones by 8.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kVectors = 4;  // of one step

// All ones in the lanes below `left`.
__m256i lanes(std::int64_t left) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int count = left < kLanes ? static_cast<int>(left) : kLanes;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
}

LIQUIDGEMM_INLINE __m256i magnitude_of(__m256 values) {
  return _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(0x7FFFFFFF));
}

// As integers, magnitudes are ordered like the floats, and infinities and NaN are the largest:
// one maximum answers both questions.
bool largest(const float* x, std::int64_t k, float* result) {
  __m256i most[kVectors];
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kVectors; ++v) most[v] = _mm256_setzero_si256();
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= k; i += kVectors * kLanes) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      most[v] = _mm256_max_epi32(most[v], magnitude_of(_mm256_loadu_ps(x + i + v * kLanes)));
    }
  }
  for (; i < k; i += kLanes) {
    most[0] = _mm256_max_epi32(most[0], magnitude_of(_mm256_maskload_ps(x + i, lanes(k - i))));
  }
  const __m256i all =
      _mm256_max_epi32(_mm256_max_epi32(most[0], most[1]), _mm256_max_epi32(most[2], most[3]));
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), all);
  std::int32_t bits = 0;
  for (std::int32_t candidate : each) bits = candidate > bits ? candidate : bits;
  __builtin_memcpy(result, &bits, sizeof bits);
  return bits < 0x7F800000;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  const __m256 factor = _mm256_set1_ps(reciprocal);
  // Packing works within 128-bit lanes: it leaves four values of each vector side by side.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i low = _mm256_set1_epi8(-127);
  __m256i sum = _mm256_setzero_si256();
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= k; i += kVectors * kLanes) {
    __m256i value[kVectors];
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      // The conversion rounds to nearest even. Packing clamps to -128 .. 127.
      value[v] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + v * kLanes), factor));
    }
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(value[0], value[1]),
                                       _mm256_packs_epi32(value[2], value[3]));
    bytes = _mm256_max_epi8(_mm256_permutevar8x32_epi32(bytes, order), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(x8 + i), bytes);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  std::int32_t each[kLanes];
  std::int32_t total = 0;
  for (; i < k; i += kLanes) {
    const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + i, lanes(k - i)), factor);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), _mm256_cvtps_epi32(scaled));
    for (std::int64_t j = 0; j < kLanes && i + j < k; ++j) {
      std::int32_t value = each[j] > 127 ? 127 : each[j];
      value = value < -127 ? -127 : value;
      x8[i + j] = static_cast<std::int8_t>(value);
      total += value;
    }
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), sum);
  for (std::int32_t part : each) total += part;
  return total;
}

}  // namespace

const QuantizeKernel kQuantizeAvx2 = {largest, quantize};

}  // namespace liquidgemm::cpu
