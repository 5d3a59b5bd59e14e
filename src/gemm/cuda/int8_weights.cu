#include "gemm/cuda/int8_weights.h"

#include <cuda_runtime.h>

#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/row_checks.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;

// ---- Weights -----------------------------------------------------------------------------------

// A thread turns eight columns into one word of high and one of low nibbles.
constexpr int kColumns = 8;

__global__ __launch_bounds__(kThreads) void split_kernel(Int8WeightArguments arguments) {
  const std::int64_t row = blockIdx.x;
  const bool real = row < arguments.weight_rows;
  const std::int64_t half = int8_half(arguments.k);
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kColumns;
  if (first < half) {
    const std::int8_t* weight = arguments.weight + row * arguments.k;
    std::uint32_t high = 0;
    std::uint32_t low = 0;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      if (first + i >= arguments.k) break;
      const auto level = static_cast<std::uint32_t>((real ? weight[first + i] : 0) + 128);
      high |= level >> 4 << (4 * i);
      low |= (level & 15u) << (4 * i);
    }
    auto* words = reinterpret_cast<std::uint32_t*>(arguments.packed + row * half);
    words[first / kColumns] = high;
    words[(half + first) / kColumns] = low;
  }
  if (blockIdx.y > 0) return;
  const std::int64_t groups = 2 * half / kInt8GroupSize;
  for (std::int64_t group = threadIdx.x; group < groups; group += kThreads) {
    arguments.step[row * groups + group] = group < groups / 2 ? 16 : 1;
    arguments.offset[row * groups + group] = 0;
  }
  if (threadIdx.x == 0) {
    arguments.channel_scale[row] = real ? arguments.weight_scale[row] : 1.0f;
  }
}

// ---- Activations -------------------------------------------------------------------------------

// A thread reads 16 columns once and writes them to both halves. `whole`: rows of x8 begin at
// multiples of 16 bytes.
__global__ __launch_bounds__(kThreads) void stack_kernel(Int8ActivationArguments arguments,
                                                         bool whole) {
  begin_early_launch();
  const std::int64_t row = blockIdx.x;
  const std::int64_t half = int8_half(arguments.k);
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * 16;
  if (first >= half) return;
  const std::int8_t* x8 = arguments.x8 + row * arguments.ld + first;
  uint4 values = {0, 0, 0, 0};
  if (whole && first + 16 <= arguments.k) {
    values = *reinterpret_cast<const uint4*>(x8);
  } else {
    std::uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      if (first + i < arguments.k) {
        words[i / 4] |= (static_cast<std::uint32_t>(x8[i]) & 0xFFu) << (i % 4 * 8);
      }
    }
    values = make_uint4(words[0], words[1], words[2], words[3]);
  }
  std::int8_t* out = arguments.out + row * 2 * half + first;
  *reinterpret_cast<uint4*>(out) = values;
  *reinterpret_cast<uint4*>(out + half) = values;
}

Status check_k(const RowChecks& check, std::int64_t k) {
  if (k < 1) return check.refused("K is " + std::to_string(k) + ", expected 1 or more");
  if (k <= numerics::kMaxK && int8_stacked_k(k) <= numerics::kMaxK) return ok_status();
  return unsupported("CUDA GEMM: K is " + std::to_string(k) +
                     ", but an INT8 layer takes twice as many columns, and at most " +
                     std::to_string(numerics::kMaxK));
}

}  // namespace

Status split_int8_weights(const Int8WeightArguments& arguments, CudaStream stream) {
  const RowChecks check("split_int8_weights");
  LIQUIDGEMM_RETURN_IF_ERROR(check_k(check, arguments.k));
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("N", arguments.n));
  if (arguments.weight_rows < 1 || arguments.weight_rows > arguments.n) {
    return check.refused("the weight has " + std::to_string(arguments.weight_rows) +
                         " rows, expected 1 to N = " + std::to_string(arguments.n));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the weight", arguments.weight, 1));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("its scales", arguments.weight_scale));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the codes", arguments.packed, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the steps", arguments.step, 1));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the offsets", arguments.offset, 1));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the channel scales", arguments.channel_scale));
  const dim3 grid(static_cast<unsigned>(arguments.n),
                  blocks_for(int8_half(arguments.k), kThreads * kColumns));
  split_kernel<<<grid, kThreads, 0, stream>>>(arguments);
  return launch_status("split_int8_weights");
}

Status stack_int8_rows(const Int8ActivationArguments& arguments, CudaStream stream) {
  const RowChecks check("stack_int8_rows");
  LIQUIDGEMM_RETURN_IF_ERROR(check_k(check, arguments.k));
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("M", arguments.m));
  LIQUIDGEMM_RETURN_IF_ERROR(check.matrix("x8", arguments.x8, arguments.ld, arguments.k,
                                          /*element_bytes=*/1, /*alignment=*/1));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the output", arguments.out, 16));
  const bool whole =
      reinterpret_cast<std::uintptr_t>(arguments.x8) % 16 == 0 && arguments.ld % 16 == 0;
  const dim3 grid(static_cast<unsigned>(arguments.m),
                  blocks_for(int8_half(arguments.k), kThreads * 16));
  launch_early(stack_kernel, grid, kThreads, 0, stream, arguments, whole);
  return launch_status("stack_int8_rows");
}

}  // namespace liquidgemm::cuda
