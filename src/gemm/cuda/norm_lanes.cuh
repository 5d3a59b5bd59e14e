// The sum of squares of a row by one thread block, in the tree of the numeric contract.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/numerics.h"

namespace liquidgemm::cuda {

// Two neighbouring threads share four of the contract's 1024 lanes. Chunk c is elements
// 4c .. 4c + 3 of the row, and belongs to the lanes 4 (c mod 256) .. 4 (c mod 256) + 3:
//
//   chunk                            q         q + 256   q + 512   q + 768   ...
//   loaded, normed and stored by     2q        2q + 1    2q        2q + 1    thread
//   first two squares summed in      2q        2q        2q        2q        thread
//   last two squares summed in       2q + 1    2q + 1    2q + 1    2q + 1    thread
inline constexpr int kNormThreads = numerics::kNormLanes / 2;

__device__ __forceinline__ int first_norm_chunk(unsigned thread) {
  return static_cast<int>(thread / 2 + thread % 2 * (kNormThreads / 2));
}
// The chunk after it of the same thread is kNormThreads further on.

struct NormLanes {
  float own[2] = {0.0f, 0.0f};

  // The squares of a chunk of this thread and of the neighbour's: all threads of a warp together,
  // zeros where the row has ended.
  __device__ __forceinline__ void add(const float (&squares)[4]) {
    const bool odd = threadIdx.x % 2 != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float mine = odd ? squares[i + 2] : squares[i];
      const float others = __shfl_xor_sync(0xFFFFFFFFu, odd ? squares[i] : squares[i + 2], 1);
      // The even thread's chunk comes first in the row.
      own[i] = (own[i] + (odd ? others : mine)) + (odd ? mine : others);
    }
  }
};

// The first pass over a row: residual + x, rounded and stored (from here on the stored value
// counts), and the squares of that. A thread keeps its first kKept chunks; kMore: there may be
// others, to be read again. The row has `chunks` chunks of four, in types as row_chunk.cuh's.
template <bool kMore, class XChunk, class ResidualChunk, int kKept>
__device__ __forceinline__ NormLanes add_to_residual(bool adds, const void* x, void* residual,
                                                     int chunks, ResidualChunk (&kept)[kKept]) {
  NormLanes lanes;
  const auto load = [&](ResidualChunk& four, XChunk& added, int chunk) {
    if (chunk >= chunks) return;
    four.load(residual, chunk);
    if (adds) added.load(x, chunk);
  };
  const auto add = [&](ResidualChunk& four, const XChunk& added, int chunk) {
    float squares[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (chunk < chunks) {
      if (adds) {
#pragma unroll
        for (int j = 0; j < 4; ++j) four.set(j, four.get(j) + added.get(j));
        four.store(residual, chunk);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) squares[j] = four.get(j) * four.get(j);
    }
    lanes.add(squares);
  };
  const int first = first_norm_chunk(threadIdx.x);
  {
    XChunk added[kKept];
#pragma unroll
    for (int i = 0; i < kKept; ++i) load(kept[i], added[i], first + i * kNormThreads);
#pragma unroll
    for (int i = 0; i < kKept; ++i) add(kept[i], added[i], first + i * kNormThreads);
  }
  if constexpr (kMore) {
    // Threads of a warp go on together, for NormLanes.
    for (int i = kKept; i * kNormThreads < chunks; ++i) {
      ResidualChunk four;
      XChunk added;
      load(four, added, first + i * kNormThreads);
      add(four, added, first + i * kNormThreads);
    }
  }
  return lanes;
}

struct NormShared {
  float2 lanes[kNormThreads];
  float reciprocal;
};

// Lane kFirst * 32 folded by halving with the lanes kApart * 32, 2 * kApart * 32, ... after it. An
// addition gives the same in either order.
template <int kFirst = 0, int kApart = 1>
__device__ __forceinline__ float folded_lane(const float* lanes) {
  if constexpr (kApart == numerics::kNormLanes / 32) {
    return lanes[kFirst * 32];
  } else {
    const float sum = folded_lane<kFirst, 2 * kApart>(lanes);
    return sum + folded_lane<kFirst + kApart, 2 * kApart>(lanes);
  }
}

// numerics::rms_reciprocal of the row, in every thread. The first warp folds, once for all;
// meanwhile the others call meanwhile(0 .. kNormThreads - 33).
template <typename Meanwhile>
__device__ __forceinline__ float rms_reciprocal_of_row(const NormLanes& lanes, int k, float epsilon,
                                                       NormShared& shared,
                                                       const Meanwhile& meanwhile) {
  shared.lanes[threadIdx.x] = make_float2(lanes.own[0], lanes.own[1]);
  __syncthreads();
  if (threadIdx.x < 32) {
    float sum = folded_lane(reinterpret_cast<const float*>(shared.lanes) + threadIdx.x);
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
      sum = sum + __shfl_xor_sync(0xFFFFFFFFu, sum, apart);
    }
    shared.reciprocal = numerics::rms_reciprocal(sum, static_cast<float>(k), epsilon);
  } else {
    meanwhile(threadIdx.x - 32);
  }
  __syncthreads();
  return shared.reciprocal;
}

}  // namespace liquidgemm::cuda
