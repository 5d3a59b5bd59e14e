// The gate's activation, its product with up, and that row to INT8. A row belongs to a cluster of
// kBlocks thread blocks, more of them the fewer rows there are: the activation of a whole row takes
// one block longer than the product in front of it.
//
// The products are kept in shared memory and all loops are short: a kernel starts with no
// instruction in a near cache, and a row takes less time than the code of an unrolled loop takes to
// arrive (docs/gpu.md).
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/silu_multiply.cuh"
#include "gemm/numerics.h"
#include "ops/cuda/ptx/remote.h"
#include "ops/cuda/rows.h"

namespace liquidgemm::cuda {
namespace {

template <int kThreads, int kBlocks>
__global__ __launch_bounds__(kThreads) void silu_multiply_quantize_kernel(
    SiluMultiplyQuantizeArguments arguments) {
  // Other blocks' shared memory may be written once they have started.
  if constexpr (kBlocks > 1) ptx::cluster_arrive();
  begin_early_launch();
  extern __shared__ float4 products[];  // [i][thread] of the thread's i-th chunk of four
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

  // The next chunk's values are under way meanwhile; those behind the end are the last ones again.
  float4 g = gate[min(first, chunks - 1)], u = up[min(first, chunks - 1)];
  std::uint32_t largest = 0;
  float4* product = products + threadIdx.x;
#pragma unroll 1
  for (int chunk = first; chunk < chunks; chunk += kStride) {
    const int next = min(chunk + kStride, chunks - 1);
    const float4 next_g = gate[next], next_u = up[next];
    float values[4];
    silu_multiply({g.x, g.y, g.z, g.w}, {u.x, u.y, u.z, u.w}, values);
#pragma unroll
    for (const float value : values) largest = max(largest, magnitude_bits(value));
    *product = make_float4(values[0], values[1], values[2], values[3]);
    product += kThreads;
    g = next_g;
    u = next_u;
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
  product = products + threadIdx.x;
#pragma unroll 1
  for (int chunk = first; chunk < chunks; chunk += kStride) {
    const float4 four = *product;
    x8[chunk] = quantize_four({four.x, four.y, four.z, four.w}, scale.reciprocal, sum);
    product += kThreads;
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

// Of rows of up to kMostWidth.
template <int kThreads, int kBlocks, std::int64_t kMostWidth>
Status launch(const SiluMultiplyQuantizeArguments& arguments, cudaStream_t stream) {
  constexpr auto kKernel = silu_multiply_quantize_kernel<kThreads, kBlocks>;
  constexpr auto product_bytes = [](std::int64_t width) {
    constexpr std::int64_t kStride = 4 * kThreads * kBlocks;
    return static_cast<int>((width + kStride - 1) / kStride * kThreads * sizeof(float4));
  };
  // Once; remembers a failure too.
  static const Status opted_in =
      cuda_status(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       product_bytes(kMostWidth)),
                  "cudaFuncSetAttribute(silu_multiply_quantize)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  launch_early_clusters(kKernel, static_cast<unsigned>(arguments.rows) * kBlocks, kThreads, kBlocks,
                        static_cast<std::size_t>(product_bytes(arguments.width)), stream,
                        arguments);
  return launch_status("silu_multiply_quantize");
}

}  // namespace

Status silu_multiply_quantize(const SiluMultiplyQuantizeArguments& arguments, CudaStream stream) {
  const SiluMultiplyQuantizeArguments& a = arguments;
  if (a.gate_up == nullptr || a.x8 == nullptr || a.scale == nullptr || a.sum == nullptr) {
    return invalid_argument("silu_multiply_quantize: a pointer is null");
  }
  if (a.rows < 1 || a.rows > 0x7FFFFFFF || a.width < 4 || a.width % 4 != 0 ||
      a.width > numerics::kMaxK || a.ld < 2 * a.width || a.ld % 4 != 0 || a.ld_x8 < a.width ||
      a.ld_x8 % 4 != 0 || reinterpret_cast<std::uintptr_t>(a.gate_up) % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(a.x8) % 4 != 0) {
    return invalid_argument("silu_multiply_quantize: " + std::to_string(a.rows) + " rows of " +
                            std::to_string(a.width) + " gates and ups, row strides " +
                            std::to_string(a.ld) + " and " + std::to_string(a.ld_x8) +
                            "; widths and strides are to be multiples of 4, aligned, and widths at "
                            "most " +
                            std::to_string(numerics::kMaxK));
  }
  if (a.width <= 2048) return launch<128, 1, 2048>(a, stream);
  if (a.rows <= 32) return launch<256, 8, numerics::kMaxK>(a, stream);
  // One block where many rows keep all multiprocessors busy, and two of them fit into each.
  constexpr std::int64_t kOneBlock = 16384;
  if (a.rows > 128 && a.width <= kOneBlock) return launch<512, 1, kOneBlock>(a, stream);
  return launch<512, 2, numerics::kMaxK>(a, stream);
}

}  // namespace liquidgemm::cuda
