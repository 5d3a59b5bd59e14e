// A row to INT8 by one thread block or a cluster of them: its scale from the largest magnitude,
// four values to a word, its sum (numerics.h, Activations).
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/cuda/ptx/remote.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {

inline constexpr std::uint32_t kInfinityBits = 0x7F800000u;

template <int kThreads>
struct Reduction {
  std::uint32_t largest[kThreads / 32];
  std::int32_t sum[kThreads / 32];
  float reciprocal;
};

__device__ __forceinline__ std::uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7FFFFFFFu;
}

// Of the whole block, in every thread.
template <int kThreads>
__device__ __forceinline__ std::uint32_t largest_of_block(std::uint32_t largest,
                                                          Reduction<kThreads>& shared) {
  largest = __reduce_max_sync(0xFFFFFFFFu, largest);
  if (threadIdx.x % 32 == 0) shared.largest[threadIdx.x / 32] = largest;
  __syncthreads();
  constexpr int kWarps = kThreads / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  return __reduce_max_sync(0xFFFFFFFFu, lane < kWarps ? shared.largest[lane] : 0u);
}

// Of the whole block, in its first warp.
template <int kThreads>
__device__ __forceinline__ std::int32_t sum_of_block(std::int32_t sum,
                                                     Reduction<kThreads>& shared) {
  sum = __reduce_add_sync(0xFFFFFFFFu, sum);
  if (threadIdx.x % 32 == 0) shared.sum[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return 0;
  constexpr int kWarps = kThreads / 32;
  const int lane = static_cast<int>(threadIdx.x);
  return __reduce_add_sync(0xFFFFFFFFu, lane < kWarps ? shared.sum[lane] : 0);
}

// The bits of non-negative floats are ordered like the floats; infinity and NaN lie above them all.
__device__ __forceinline__ numerics::RowScale row_scale_of_bits(std::uint32_t largest) {
  return numerics::row_scale(__uint_as_float(largest), largest < kInfinityBits);
}
// The reciprocal in every thread, the scale in the first warp, which divides for all.
template <int kThreads>
__device__ __forceinline__ numerics::RowScale row_scale_by_first_warp(std::uint32_t largest,
                                                                      Reduction<kThreads>& shared) {
  static_assert(32 % (kThreads / 32) == 0);
  largest = __reduce_max_sync(0xFFFFFFFFu, largest);
  if (threadIdx.x % 32 == 0) shared.largest[threadIdx.x / 32] = largest;
  __syncthreads();
  numerics::RowScale scale{};
  if (threadIdx.x < 32) {
    const std::uint32_t of_warp = shared.largest[threadIdx.x % (kThreads / 32)];
    scale = row_scale_of_bits(__reduce_max_sync(0xFFFFFFFFu, of_warp));
    shared.reciprocal = scale.reciprocal;
  }
  __syncthreads();
  scale.reciprocal = shared.reciprocal;
  return scale;
}

template <int kThreads>
__device__ __forceinline__ void write_scale_and_sum(std::int32_t sum, float scale, float* row_scale,
                                                    std::int32_t* row_sum,
                                                    Reduction<kThreads>& shared) {
  sum = sum_of_block(sum, shared);
  if (threadIdx.x != 0) return;
  *row_scale = scale;
  *row_sum = sum;
}

// The same for a row of a cluster of kBlocks blocks, all of which must have started by then.
template <int kThreads, int kBlocks>
struct ClusterReduction {
  Reduction<kThreads> block;
  std::uint32_t largest[kBlocks];
  std::int32_t sum[kBlocks];  // in the first block
};

// In every thread of the cluster.
template <int kThreads, int kBlocks>
__device__ __forceinline__ std::uint32_t largest_of_cluster(
    std::uint32_t largest, ClusterReduction<kThreads, kBlocks>& shared, int rank) {
  largest = largest_of_block(largest, shared.block);
  if constexpr (kBlocks == 1) return largest;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kBlocks) *ptx::remote(&shared.largest[rank], thread) = largest;
  cooperative_groups::this_cluster().sync();
  return __reduce_max_sync(0xFFFFFFFFu, shared.largest[thread % kBlocks]);
}

// In the first thread of the cluster.
template <int kThreads, int kBlocks>
__device__ __forceinline__ std::int32_t sum_of_cluster(std::int32_t sum,
                                                       ClusterReduction<kThreads, kBlocks>& shared,
                                                       int rank) {
  sum = sum_of_block(sum, shared.block);
  if constexpr (kBlocks == 1) return sum;
  if (threadIdx.x == 0) *ptx::remote(&shared.sum[rank], 0) = sum;
  cooperative_groups::this_cluster().sync();
  if (threadIdx.x >= 32) return 0;
  const int lane = static_cast<int>(threadIdx.x);
  return __reduce_add_sync(0xFFFFFFFFu, lane < kBlocks ? shared.sum[lane] : 0);
}

template <int kThreads, int kBlocks>
__device__ __forceinline__ void write_scale_and_sum(std::int32_t sum, float scale, float* row_scale,
                                                    std::int32_t* row_sum,
                                                    ClusterReduction<kThreads, kBlocks>& shared,
                                                    int rank) {
  sum = sum_of_cluster(sum, shared, rank);
  if (rank != 0 || threadIdx.x != 0) return;
  *row_scale = scale;
  *row_sum = sum;
}

// Four values of a row to one word of INT8 (numerics::quantize_value); adds them to `sum`.
// 1.5 * 2^23 added to what is to be rounded leaves the integer in the lowest byte: rint() and the
// conversion in one instruction. Nothing is clamped, since with the reciprocal of the row's own
// largest magnitude no product is beyond 127.00002.
__device__ __forceinline__ std::uint32_t quantize_four(const float (&values)[4], float reciprocal,
                                                       std::int32_t& sum) {
  std::uint32_t bytes[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    bytes[i] = __float_as_uint(values[i] * reciprocal + numerics::kRoundingAddend);
  }
  const std::uint32_t word = __byte_perm(__byte_perm(bytes[0], bytes[1], 0x0040),
                                         __byte_perm(bytes[2], bytes[3], 0x0040), 0x5410);
  // A row that is not finite, or tiny, becomes zeros; its values may be anything.
  if (reciprocal == 0.0f) return 0;
  sum = __dp4a(static_cast<int>(word), 0x01010101, sum);
  return word;
}

}  // namespace liquidgemm::cuda
