// Rows to INT8 on AVX2: the contract's sequence, 8 values at a time.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kLanes = 8;

// All ones in the lanes below `left`.
__m256i lanes(std::int64_t left) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int count = left < kLanes ? static_cast<int>(left) : kLanes;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
}

// As integers, magnitudes are ordered like the floats, and infinities and NaN are the largest:
// one maximum answers both questions.
bool largest(const float* x, std::int64_t k, float* result) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i most = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < k; i += kLanes) {
    const __m256 values = _mm256_maskload_ps(x + i, lanes(k - i));
    most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(values), magnitude));
  }
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), most);
  std::int32_t bits = 0;
  for (std::int32_t candidate : each) bits = candidate > bits ? candidate : bits;
  __builtin_memcpy(result, &bits, sizeof bits);
  return bits < 0x7F800000;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  const __m256 factor = _mm256_set1_ps(reciprocal);
  const __m256i high = _mm256_set1_epi32(127);
  const __m256i low = _mm256_set1_epi32(-127);
  // The low byte of each 32-bit lane, gathered into the low four bytes of each half.
  const __m256i gather = _mm256_set1_epi64x(static_cast<long long>(0xFFFFFFFF0C080400ull));
  __m256i sum = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < k; i += kLanes) {
    const std::int64_t left = k - i;
    const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + i, lanes(left)), factor);
    // The conversion rounds to nearest even; |scaled| is at most 127 and a rounding error.
    __m256i value = _mm256_cvtps_epi32(scaled);
    value = _mm256_max_epi32(_mm256_min_epi32(value, high), low);
    sum = _mm256_add_epi32(sum, value);
    const __m256i bytes = _mm256_shuffle_epi8(value, gather);
    const std::int32_t words[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    __builtin_memcpy(x8 + i, words, static_cast<std::size_t>(left < kLanes ? left : kLanes));
  }
  std::int32_t each[kLanes];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), sum);
  std::int32_t total = 0;
  for (std::int32_t part : each) total += part;
  return total;
}

}  // namespace

const QuantizeKernel kQuantizeAvx2 = {largest, quantize};

}  // namespace liquidgemm::cpu
