// The sum of squares of a row by one thread block, in the tree of the numeric contract.
#pragma once

#include <cuda_runtime.h>

#include "gemm/numerics.h"

namespace liquidgemm::cuda {

// 256 threads of four consecutive elements are the 1024 lanes of the contract's tree: thread t has
// the lanes 4t .. 4t + 3, and its chunks t, t + 256, ... visit them in ascending k.
inline constexpr int kNormThreads = numerics::kNormLanes / 4;
inline constexpr int kNormWarps = kNormThreads / 32;

// The lanes folded by halving, in every thread. An addition gives the same in either order.
__device__ __forceinline__ float fold_lanes(float4 lanes, float4 (&shared)[kNormThreads]) {
  shared[threadIdx.x] = lanes;
  __syncthreads();
  // Halves of 512, 256 and 128 lanes: warps 4, 2 and 1 apart. Every warp does the same.
  float4 part[kNormWarps];
#pragma unroll
  for (int warp = 0; warp < kNormWarps; ++warp) part[warp] = shared[warp * 32 + threadIdx.x % 32];
#pragma unroll
  for (int half = kNormWarps / 2; half > 0; half /= 2) {
#pragma unroll
    for (int warp = 0; warp < half; ++warp) {
      part[warp].x = part[warp].x + part[warp + half].x;
      part[warp].y = part[warp].y + part[warp + half].y;
      part[warp].z = part[warp].z + part[warp + half].z;
      part[warp].w = part[warp].w + part[warp + half].w;
    }
  }
  // Halves of 64 .. 4 lanes: threads 16 .. 1 apart.
  float4 sum = part[0];
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    sum.x = sum.x + __shfl_xor_sync(0xFFFFFFFFu, sum.x, apart);
    sum.y = sum.y + __shfl_xor_sync(0xFFFFFFFFu, sum.y, apart);
    sum.z = sum.z + __shfl_xor_sync(0xFFFFFFFFu, sum.z, apart);
    sum.w = sum.w + __shfl_xor_sync(0xFFFFFFFFu, sum.w, apart);
  }
  return (sum.x + sum.z) + (sum.y + sum.w);
}

}  // namespace liquidgemm::cuda
