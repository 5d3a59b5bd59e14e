#include "gemm/cuda/int8_weights.h"

#include <cuda_runtime.h>

#include <limits>
#include <string>

#include "gemm/cuda/cuda_status.h"
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

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();

Status check_k(const char* call, std::int64_t k) {
  if (k < 1) {
    return invalid_argument(std::string(call) + ": K is " + std::to_string(k) +
                            ", expected 1 or more");
  }
  if (k > numerics::kMaxK || int8_stacked_k(k) > numerics::kMaxK) {
    return unsupported(std::string(call) + ": K is " + std::to_string(k) +
                       ", but an INT8 layer takes twice that, and at most " +
                       std::to_string(numerics::kMaxK));
  }
  return ok_status();
}

unsigned blocks_for(std::int64_t columns, std::int64_t columns_of_block) {
  return static_cast<unsigned>((columns + columns_of_block - 1) / columns_of_block);
}

}  // namespace

Status split_int8_weights(const Int8WeightArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "split_int8_weights";
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(kCall) + ": " + what);
  };
  LIQUIDGEMM_RETURN_IF_ERROR(check_k(kCall, arguments.k));
  if (arguments.weight_rows < 1 || arguments.n < arguments.weight_rows || arguments.n > kMaxRows) {
    return refused("the weight has " + std::to_string(arguments.weight_rows) + " rows and N is " +
                   std::to_string(arguments.n));
  }
  if (arguments.weight == nullptr || arguments.weight_scale == nullptr ||
      arguments.packed == nullptr || arguments.step == nullptr || arguments.offset == nullptr ||
      arguments.channel_scale == nullptr) {
    return refused("a pointer is null");
  }
  if (!aligned(arguments.packed, 16)) return refused("the codes are not 16-byte aligned");
  const dim3 grid(static_cast<unsigned>(arguments.n),
                  blocks_for(int8_half(arguments.k), kThreads * kColumns));
  split_kernel<<<grid, kThreads, 0, stream>>>(arguments);
  return launch_status(kCall);
}

Status stack_int8_rows(const Int8ActivationArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "stack_int8_rows";
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(kCall) + ": " + what);
  };
  LIQUIDGEMM_RETURN_IF_ERROR(check_k(kCall, arguments.k));
  if (arguments.m < 1 || arguments.m > kMaxRows) {
    return refused("M is " + std::to_string(arguments.m));
  }
  if (arguments.ld < arguments.k) {
    return refused("x8 has a row stride of " + std::to_string(arguments.ld) + ", K is " +
                   std::to_string(arguments.k));
  }
  if (arguments.x8 == nullptr || arguments.out == nullptr || !aligned(arguments.out, 16)) {
    return refused("a pointer is null, or the output is not 16-byte aligned");
  }
  const bool whole = aligned(arguments.x8, 16) && arguments.ld % 16 == 0;
  const dim3 grid(static_cast<unsigned>(arguments.m),
                  blocks_for(int8_half(arguments.k), kThreads * 16));
  stack_kernel<<<grid, kThreads, 0, stream>>>(arguments, whole);
  return launch_status(kCall);
}

}  // namespace liquidgemm::cuda
