// The gate's activation, its product with up, and that row to INT8: one thread block a row. What a
// thread keeps in registers is computed once; of longer rows the rest is computed again.
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/numerics.h"
#include "ops/cuda/rows.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kKept = 8;  // chunks of four that a thread keeps

template <int kThreads>
__global__ __launch_bounds__(kThreads) void silu_multiply_quantize_kernel(
    SiluMultiplyQuantizeArguments arguments) {
  begin_early_launch();
  __shared__ Reduction<kThreads> shared;
  const std::int64_t row = blockIdx.x;
  const auto* gate = reinterpret_cast<const float4*>(arguments.gate_up + row * arguments.ld);
  const auto* up =
      reinterpret_cast<const float4*>(arguments.gate_up + row * arguments.ld + arguments.width);
  auto* x8 = reinterpret_cast<std::uint32_t*>(arguments.x8 + row * arguments.ld_x8);
  const int chunks = static_cast<int>(arguments.width / 4);
  const int thread = static_cast<int>(threadIdx.x);

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
    const int chunk = thread + i * kThreads;
    if (chunk >= chunks) continue;
    compute(chunk, kept[i]);
    measure(kept[i]);
  }
  for (int chunk = thread + kKept * kThreads; chunk < chunks; chunk += kThreads) {
    float values[4];
    compute(chunk, values);
    measure(values);
  }
  const numerics::RowScale scale = row_scale_of(largest, shared);

  std::int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int chunk = thread + i * kThreads;
    if (chunk < chunks) x8[chunk] = quantize_four(kept[i], scale.reciprocal, sum);
  }
  for (int chunk = thread + kKept * kThreads; chunk < chunks; chunk += kThreads) {
    float values[4];
    compute(chunk, values);
    x8[chunk] = quantize_four(values, scale.reciprocal, sum);
  }
  write_scale_and_sum(sum, scale.scale, arguments.scale + row, arguments.sum + row, shared);
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
  const auto grid = static_cast<unsigned>(a.rows);
  if (a.width <= 2048) {
    launch_early(silu_multiply_quantize_kernel<128>, grid, 128, 0, stream, a);
  } else {
    launch_early(silu_multiply_quantize_kernel<512>, grid, 512, 0, stream, a);
  }
  return launch_status("silu_multiply_quantize");
}

}  // namespace liquidgemm::cuda
