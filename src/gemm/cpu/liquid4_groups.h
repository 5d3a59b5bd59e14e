// How the AVX2 and AVX-512 kernels walk through a panel of 4-bit weights (packed_weights.h). Only
// the liquid4_avx*.cc files include this: each has a copy of its own (kernels.h says why).
#pragma once

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kChunk = 8;  // k of 128 packed bytes

// Of the group that begins at `k`; the last one may be short.
LIQUIDGEMM_INLINE std::int64_t chunks_of_group(const IntegerJob& job, std::int64_t k) {
  const std::int64_t left = job.k - k;
  return (left < job.group_size ? left : job.group_size) / kChunk;
}

}  // namespace
}  // namespace liquidgemm::cpu
