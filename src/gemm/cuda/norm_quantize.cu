// residual + x, its RMSNorm and INT8 rows of that on the GPU, bit-equal to the CPU.
//
// The code is short, since a kernel starts with none of it in a near cache, and takes little shared
// memory, so that its blocks find room beside those of the product in front (docs/gpu.md): one warp
// folds, takes the root and divides for all.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/norm_lanes.cuh"
#include "gemm/cuda/quantize_arguments.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/row_chunk.cuh"
#include "gemm/numerics.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace cuda {
namespace {

struct NormKernelArguments {
  QuantizeKernelArguments rows;  // x null: nothing is added
  std::uint8_t* residual;
  std::int64_t residual_row_bytes;
  const float* weight;
  float epsilon;
  std::uint32_t* cleared;
  std::int64_t cleared_words;
};

// How many chunks of a row a thread keeps in registers: all, or the first two; others are read
// again in the next pass, out of the caches.
enum class Kept { kTwo, kFour, kFirstTwo };

template <CudaFloat kX, CudaFloat kResidual, Kept kKept>
__global__ void __launch_bounds__(kNormThreads, 2)
    add_norm_quantize_kernel(NormKernelArguments arguments) {
  using XChunk = Chunk<kX, 4>;
  using ResidualChunk = Chunk<kResidual, 4>;
  using WeightChunk = Chunk<CudaFloat::kFloat32, 4>;
  constexpr int kCount = kKept == Kept::kFour ? 4 : 2;
  constexpr bool kMore = kKept == Kept::kFirstTwo;
  // Registers for the weights while x is there too.
  constexpr bool kEarlyWeights = kCount == 2;
  ptx::launch_dependents();
  __shared__ NormShared norm_shared;
  __shared__ Reduction<kNormThreads> shared;
  const std::int64_t row = blockIdx.x;
  const bool adds = arguments.rows.x != nullptr;
  const void* x = arguments.rows.x + (adds ? row * arguments.rows.x_row_bytes : 0);
  void* residual = arguments.residual + row * arguments.residual_row_bytes;
  std::int8_t* x8 = arguments.rows.x8 + row * arguments.rows.ld_x8;
  const int k = static_cast<int>(arguments.rows.k);
  const int chunks = k / 4;
  const int first = first_norm_chunk(threadIdx.x);
  const int first_more = first + kCount * kNormThreads;

  WeightChunk weights[kCount];
  const auto load_weights = [&] {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int chunk = first + i * kNormThreads;
      if (chunk < chunks) weights[i].load(arguments.weight, chunk);
    }
  };
  // No kernel writes the weights: they come while the one in front ends.
  if constexpr (kEarlyWeights) load_weights();
  ptx::wait_for_previous_kernel();

  ResidualChunk kept[kCount];
  const NormLanes lanes = add_to_residual<kMore, XChunk>(adds, x, residual, chunks, kept);
  if constexpr (!kEarlyWeights) load_weights();
  // Word w of what is cleared by row w mod m.
  const float reciprocal =
      rms_reciprocal_of_row(lanes, k, arguments.epsilon, norm_shared, [&](unsigned thread) {
#pragma unroll 1
        for (std::int64_t word = row + std::int64_t{thread} * gridDim.x;
             word < arguments.cleared_words; word += std::int64_t{kNormThreads - 32} * gridDim.x) {
          arguments.cleared[word] = 0;
        }
      });

  std::uint32_t largest = 0;
  const auto normalize = [&](const ResidualChunk& four, const WeightChunk& weight,
                             float(&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[j] = numerics::rms_apply(four.get(j), reciprocal, weight.get(j));
      largest = max(largest, magnitude_bits(values[j]));
    }
  };
  // A thread reads back only what it has stored itself.
  const auto normalize_again = [&](int chunk, float(&values)[4]) {
    ResidualChunk four;
    WeightChunk weight;
    four.load(residual, chunk);
    weight.load(arguments.weight, chunk);
    normalize(four, weight, values);
  };
  float normed[kCount][4];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (first + i * kNormThreads < chunks) normalize(kept[i], weights[i], normed[i]);
  }
  if constexpr (kMore) {
    for (int chunk = first_more; chunk < chunks; chunk += kNormThreads) {
      float values[4];
      normalize_again(chunk, values);
    }
  }
  const numerics::RowScale scale = row_scale_by_first_warp(largest, shared);

  std::int32_t sum = 0;
  const auto quantize = [&](const float(&values)[4], int chunk) {
    reinterpret_cast<std::uint32_t*>(x8)[chunk] = quantize_four(values, scale.reciprocal, sum);
  };
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int chunk = first + i * kNormThreads;
    if (chunk < chunks) quantize(normed[i], chunk);
  }
  if constexpr (kMore) {
    for (int chunk = first_more; chunk < chunks; chunk += kNormThreads) {
      float values[4];
      normalize_again(chunk, values);
      quantize(values, chunk);
    }
  }
  write_scale_and_sum(sum, scale.scale, arguments.rows.scale + row, arguments.rows.sum + row,
                      shared);
}

template <CudaFloat kX, CudaFloat kResidual>
void launch_add_norm(const NormKernelArguments& arguments, std::int64_t m, cudaStream_t stream) {
  const auto launch = [&](auto kernel) {
    launch_early(kernel, static_cast<unsigned>(m), kNormThreads, 0, stream, arguments);
  };
  constexpr int kOnce = 4 * kNormThreads;
  if (arguments.rows.k <= 2 * kOnce) {
    launch(add_norm_quantize_kernel<kX, kResidual, Kept::kTwo>);
  } else if (arguments.rows.k <= 4 * kOnce) {
    launch(add_norm_quantize_kernel<kX, kResidual, Kept::kFour>);
  } else {
    launch(add_norm_quantize_kernel<kX, kResidual, Kept::kFirstTwo>);
  }
}

}  // namespace
}  // namespace cuda

Status add_norm_quantize_rows(const CudaAddNormQuantizeArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "add_norm_quantize_rows";
  constexpr std::int64_t kMaxNormK = 65536;
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_outputs(kCall, arguments.rows, kMaxNormK));
  if (arguments.rows.x != nullptr) {
    LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_x(kCall, arguments.rows));
  }
  if (arguments.rows.amax.parts != nullptr) {
    return invalid_argument(std::string(kCall) + ": amax is not known before the norm");
  }
  if (!cuda::known(arguments.residual_type)) {
    return invalid_argument(std::string(kCall) + ": the residual has an unknown type");
  }
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_rows(kCall, "residual", arguments.residual,
                                              arguments.ld_residual, arguments.rows.k,
                                              cuda::element_bytes(arguments.residual_type), 16));
  if (arguments.norm_weight == nullptr || !cuda::aligned(arguments.norm_weight, 16)) {
    return invalid_argument(std::string(kCall) + ": norm_weight is null or not 16-byte aligned");
  }
  if (!std::isfinite(arguments.epsilon) || arguments.epsilon < 0.0f) {
    return invalid_argument(std::string(kCall) + ": epsilon is " +
                            std::to_string(arguments.epsilon) + ", expected 0 or more");
  }
  cuda::NormKernelArguments kernel;
  kernel.rows = cuda::kernel_arguments(arguments.rows);
  kernel.residual = static_cast<std::uint8_t*>(arguments.residual);
  kernel.residual_row_bytes = arguments.ld_residual * cuda::element_bytes(arguments.residual_type);
  kernel.weight = arguments.norm_weight;
  kernel.epsilon = arguments.epsilon;
  kernel.cleared = arguments.cleared;
  kernel.cleared_words = arguments.cleared != nullptr ? arguments.cleared_words : 0;
  // Without x its type does not matter: the residual's saves a kernel.
  const CudaFloat x_type = kernel.rows.x != nullptr ? arguments.rows.type : arguments.residual_type;
  return cuda::with_type(x_type, [&](auto x) {
    return cuda::with_type(arguments.residual_type, [&](auto residual) {
      cuda::launch_add_norm<x.value, residual.value>(kernel, arguments.rows.m, stream);
      return cuda::launch_status(kCall);
    });
  });
}

}  // namespace liquidgemm
