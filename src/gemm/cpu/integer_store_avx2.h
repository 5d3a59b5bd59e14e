// The store of the two AVX2 kernels with INT32 sums. Only the *_avx2.cc files include this.
#pragma once

#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kLanes = 8;  // rows of one vector of sums

// sum - 128 * row_sum to the job's INT32 or float output, for rows row0 .. row0 + 7 of one token.
// The codes are 128 above the weights.
LIQUIDGEMM_INLINE void store_rows(const IntegerJob& job, std::int64_t token, std::int64_t row0,
                                  __m256i sum) {
  const std::int64_t rows = job.n - row0;
  if (rows <= 0) return;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int count = rows < kLanes ? static_cast<int>(rows) : kLanes;
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
  const __m256i exact = _mm256_sub_epi32(sum, _mm256_set1_epi32(128 * job.row_sum[token]));
  const std::int64_t at = token * job.ld_out + row0;
  if (job.sums) {
    _mm256_maskstore_epi32(job.sums + at, mask, exact);
    return;
  }
  const __m256 scale =
      _mm256_mul_ps(_mm256_set1_ps(job.row_scale[token]), _mm256_load_ps(job.channel_scale + row0));
  __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(exact), scale);
  if (job.bias) y = _mm256_add_ps(y, _mm256_maskload_ps(job.bias + row0, mask));
  _mm256_maskstore_ps(job.out + at, mask, y);
}

}  // namespace
}  // namespace liquidgemm::cpu
