// The gate's activation, its product with up, and that row to INT8. A row belongs to a cluster of
// kBlocks thread blocks, more of them the fewer rows there are: the activation of a whole row takes
// one block longer than the product in front of it. What a thread keeps in registers is computed
// once; of longer rows the rest is computed again.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/numerics.h"
#include "ops/cuda/ptx/remote.h"
#include "ops/cuda/rows.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kKept = 8;  // chunks of four that a thread keeps

template <int kThreads, int kBlocks>
__global__ __launch_bounds__(kThreads) void silu_multiply_quantize_kernel(
    SiluMultiplyQuantizeArguments arguments) {
  // Other blocks' shared memory may be written once they have started.
  if constexpr (kBlocks > 1) ptx::cluster_arrive();
  begin_early_launch();
  __shared__ Reduction<kThreads> shared;
  __shared__ std::uint32_t largest_of[kBlocks];  // the blocks of the cluster
  __shared__ std::int32_t sum_of[kBlocks];       // in its first block
  const std::int64_t row = blockIdx.x / kBlocks;
  const int rank = static_cast<int>(blockIdx.x % kBlocks);
  const auto* gate = reinterpret_cast<const float4*>(arguments.gate_up + row * arguments.ld);
  const auto* up =
      reinterpret_cast<const float4*>(arguments.gate_up + row * arguments.ld + arguments.width);
  auto* x8 = reinterpret_cast<std::uint32_t*>(arguments.x8 + row * arguments.ld_x8);
  const int chunks = static_cast<int>(arguments.width / 4);
  constexpr int kStride = kThreads * kBlocks;
  const int first = rank * kThreads + static_cast<int>(threadIdx.x);

  const auto compute = [&](int chunk, float(&values)[4]) {
    const float4 g = gate[chunk], u = up[chunk];
    values[0] = numerics::silu(g.x) * u.x;
    values[1] = numerics::silu(g.y) * u.y;
    values[2] = numerics::silu(g.z) * u.z;
    values[3] = numerics::silu(g.w) * u.w;
  };
  std::uint32_t largest = 0;
  const auto measure = [&](const float(&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) largest = max(largest, magnitude_bits(values[j]));
  };
  float kept[kKept][4];
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int chunk = first + i * kStride;
    if (chunk >= chunks) continue;
    compute(chunk, kept[i]);
    measure(kept[i]);
  }
  for (int chunk = first + kKept * kStride; chunk < chunks; chunk += kStride) {
    float values[4];
    compute(chunk, values);
    measure(values);
  }
  largest = largest_of_block(largest, shared);
  if constexpr (kBlocks > 1) {
    ptx::cluster_wait();
    if (threadIdx.x < kBlocks) *ptx::remote(&largest_of[rank], threadIdx.x) = largest;
    cooperative_groups::this_cluster().sync();
    largest = __reduce_max_sync(0xFFFFFFFFu, largest_of[threadIdx.x % kBlocks]);
  }
  const numerics::RowScale scale = row_scale_of_bits(largest);

  std::int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int chunk = first + i * kStride;
    if (chunk < chunks) x8[chunk] = quantize_four(kept[i], scale.reciprocal, sum);
  }
  for (int chunk = first + kKept * kStride; chunk < chunks; chunk += kStride) {
    float values[4];
    compute(chunk, values);
    x8[chunk] = quantize_four(values, scale.reciprocal, sum);
  }
  if constexpr (kBlocks > 1) {
    sum = sum_of_block(sum, shared);
    if (threadIdx.x == 0) *ptx::remote(&sum_of[rank], 0) = sum;
    cooperative_groups::this_cluster().sync();
    if (rank != 0 || threadIdx.x != 0) return;
    sum = 0;
#pragma unroll
    for (const std::int32_t of_block : sum_of) sum += of_block;
    arguments.scale[row] = scale.scale;
    arguments.sum[row] = sum;
  } else {
    write_scale_and_sum(sum, scale.scale, arguments.scale + row, arguments.sum + row, shared);
  }
}

template <int kThreads, int kBlocks>
void launch(const SiluMultiplyQuantizeArguments& arguments, cudaStream_t stream) {
  launch_early_clusters(silu_multiply_quantize_kernel<kThreads, kBlocks>,
                        static_cast<unsigned>(arguments.rows) * kBlocks, kThreads, kBlocks, 0,
                        stream, arguments);
}

}  // namespace

Status silu_multiply_quantize(const SiluMultiplyQuantizeArguments& arguments, CudaStream stream) {
  const SiluMultiplyQuantizeArguments& a = arguments;
  if (a.gate_up == nullptr || a.x8 == nullptr || a.scale == nullptr || a.sum == nullptr) {
    return invalid_argument("silu_multiply_quantize: a pointer is null");
  }
  if (a.rows < 1 || a.rows > 0x7FFFFFFF || a.width < 4 || a.width % 4 != 0 || a.ld < 2 * a.width ||
      a.ld % 4 != 0 || a.ld_x8 < a.width || a.ld_x8 % 4 != 0 ||
      reinterpret_cast<std::uintptr_t>(a.gate_up) % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(a.x8) % 4 != 0) {
    return invalid_argument("silu_multiply_quantize: " + std::to_string(a.rows) + " rows of " +
                            std::to_string(a.width) + " gates and ups, row strides " +
                            std::to_string(a.ld) + " and " + std::to_string(a.ld_x8) +
                            "; widths and strides are to be multiples of 4, aligned");
  }
  if (a.width <= 2048) {
    launch<128, 1>(a, stream);
  } else if (a.rows <= 32) {
    launch<256, 8>(a, stream);
  } else if (a.rows <= 128) {
    launch<512, 2>(a, stream);
  } else {
    launch<512, 1>(a, stream);
  }
  return launch_status("silu_multiply_quantize");
}

}  // namespace liquidgemm::cuda
