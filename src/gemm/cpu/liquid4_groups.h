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

// The packed bytes that a thread reads one after the other: its panels, then those of the product
// after this one. What is asked for ahead follows them across that border: behind the last panel
// lie those of another thread, or of nobody.
struct WeightStream {
  const std::uint8_t* end;
  const std::uint8_t* next;  // or null
};

LIQUIDGEMM_INLINE WeightStream weight_stream(const IntegerJob& job, std::int64_t panel_end) {
  return {job.panels + panel_end * job.panel_bytes, job.next};
}

// How far from `packed` the byte lies that is read `bytes` after it. 0, for what is read now, where
// nothing is known to come.
LIQUIDGEMM_INLINE std::int64_t distance_ahead(const WeightStream& stream,
                                              const std::uint8_t* packed, std::int64_t bytes) {
  const std::int64_t left = stream.end - packed;
  if (bytes < left) return bytes;
  return stream.next == nullptr ? 0 : stream.next + (bytes - left) - packed;
}

}  // namespace
}  // namespace liquidgemm::cpu
