// The first look at every sample's row: its largest logit and whether it can be used at all. Plain
// greedy samples end here; the others are listed for the kernel that draws.
//
// A row is cut into slices, a thread block each, so that one row alone is read by many. The last
// block of a row to arrive knows the result.
#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "ops/cuda/float_key.cuh"
#include "ops/cuda/sampling_kernels.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;  // of four logits by each thread, all in flight at once
constexpr int kSliceVectors = kThreads * kLoads;
constexpr int kSlice = 4 * kSliceVectors;

constexpr std::uint32_t kNan = 1;
constexpr std::uint32_t kFinite = 2;

constexpr std::uint32_t kAll = 0xFFFFFFFFu;

struct Best {
  std::uint32_t key;
  std::uint32_t token;
  std::uint32_t flags;
};

__device__ Best best_of_warp(Best best) {
  const std::uint32_t key = __reduce_max_sync(kAll, best.key);
  const std::uint32_t token = __reduce_min_sync(kAll, best.key == key ? best.token : kAll);
  return {key, token, __reduce_or_sync(kAll, best.flags)};
}

// Vector v of a row holds logits 4v - lead .. 4v - lead + 3, so that it is aligned for any row.
// What lies outside the row reads as -inf.
__device__ float4 load_vector(const float* row, int lead, int v, int vocabulary) {
  const int first = 4 * v - lead;
  if (first >= 0 && first + 4 <= vocabulary) {
    return __ldg(reinterpret_cast<const float4*>(row + first));
  }
  const auto one = [&](int i) { return i >= 0 && i < vocabulary ? __ldg(row + i) : -INFINITY; };
  return make_float4(one(first), one(first + 1), one(first + 2), one(first + 3));
}

__device__ Best best_of_slice(const float* row, int slice, int vocabulary) {
  const int lead = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) / sizeof(float) % 4);
  const int first = slice * kSliceVectors + static_cast<int>(threadIdx.x);
  float4 loaded[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    loaded[i] = load_vector(row, lead, first + i * kThreads, vocabulary);
  }
  float largest = -INFINITY;
  int token = -1;
  bool nan = false, finite = false;
  // In ascending order, so the first of equals stays.
  const auto look = [&](float x, int at) {
    nan |= x != x;
    finite |= fabsf(x) <= FLT_MAX;
    if (x > largest) {
      largest = x;
      token = at;
    }
  };
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int at = 4 * (first + i * kThreads) - lead;
    look(loaded[i].x, at);
    look(loaded[i].y, at + 1);
    look(loaded[i].z, at + 2);
    look(loaded[i].w, at + 3);
  }
  return {float_key(largest), static_cast<std::uint32_t>(token),
          (nan ? kNan : 0u) | (finite ? kFinite : 0u)};
}

__device__ bool is_plain_greedy(const CudaSample& sample) {
  const bool penalised = sample.counts_count > 0 &&
                         (sample.repetition_penalty != 1.0f || sample.presence_penalty != 0.0f ||
                          sample.frequency_penalty != 0.0f);
  return sample.temperature == 0.0f && sample.bias_count <= 0 && sample.mask_words <= 0 &&
         !penalised;
}

// By one thread, once the whole row is known.
__device__ void finish(const CudaSampleArguments& arguments, const SampleWorkspace& workspace,
                       int index, const float* row, std::uint32_t token, std::uint32_t flags) {
  SampledToken& out = arguments.sampled[index];
  if (flags != kFinite) {
    out = {-1, 0.0f};
    return;
  }
  const float logit = __ldg(row + token);
  if (is_plain_greedy(arguments.samples[index])) {
    out = {static_cast<std::int32_t>(token), logit};
    return;
  }
  if (arguments.plain_greedy) {
    out = {-1, 0.0f};
    return;
  }
  workspace.records[atomicAdd(&workspace.header->listed, 1u)].item = {index, logit};
}

__global__ __launch_bounds__(kThreads) void scan_kernel(CudaSampleArguments arguments,
                                                        SampleWorkspace workspace) {
  const int index = static_cast<int>(blockIdx.y);
  if (arguments.count != nullptr && index >= *arguments.count) return;
  const std::int32_t logits_row = arguments.samples[index].logits_row;
  if (logits_row < 0 || logits_row >= arguments.rows) {
    if (blockIdx.x == 0 && threadIdx.x == 0) arguments.sampled[index] = {-1, 0.0f};
    return;
  }
  const float* row = arguments.logits + logits_row * arguments.ld;

  Best best = best_of_warp(
      best_of_slice(row, static_cast<int>(blockIdx.x), static_cast<int>(arguments.vocabulary)));
  constexpr int kWarps = kThreads / 32;
  __shared__ Best warps[kWarps];
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = best_of_warp(warps[threadIdx.x % kWarps]);
  if (threadIdx.x != 0) return;

  ScanRecord& record = workspace.records[index];
  // Of equal keys the lower token has the larger complement.
  atomicMax(&record.best, static_cast<unsigned long long>(best.key) << 32 | (kAll - best.token));
  if (best.flags != 0) atomicOr(&record.flags, best.flags);
  __threadfence();
  if (atomicAdd(&record.arrived, 1u) + 1 != gridDim.x) return;
  __threadfence();
  const unsigned long long found = atomicExch(&record.best, 0ull);
  const std::uint32_t flags = atomicExch(&record.flags, 0u);
  record.arrived = 0;
  finish(arguments, workspace, index, row, kAll - static_cast<std::uint32_t>(found), flags);
}

}  // namespace

void launch_scan(const CudaSampleArguments& arguments, const SampleWorkspace& workspace,
                 CudaStream stream) {
  // A row that is not aligned begins up to three logits into its first vector.
  const auto slices = static_cast<unsigned>((arguments.vocabulary + 3 + kSlice - 1) / kSlice);
  const dim3 grid(slices, static_cast<unsigned>(arguments.max_count));
  scan_kernel<<<grid, kThreads, 0, stream>>>(arguments, workspace);
}

}  // namespace liquidgemm::cuda
