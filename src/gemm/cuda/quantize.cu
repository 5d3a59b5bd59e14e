// Activations to INT8 on the GPU, bit-equal to the CPU.
//
// A thread takes whole chunks of consecutive elements: chunk c belongs to thread c mod threads, so
// that the loads and stores of a warp are contiguous.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/divisor.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/norm_lanes.cuh"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/row_chunk.cuh"
#include "gemm/numerics.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace cuda {
namespace {

// ---- quantize_rows -----------------------------------------------------------------------------

struct QuantizeKernelArguments {
  const std::uint8_t* x;
  std::int64_t x_row_bytes;
  std::int8_t* x8;
  std::int64_t ld_x8;
  float* scale;
  std::int32_t* sum;
  std::int64_t k;
};

constexpr int kKeptBytes = 16;  // of a chunk

// A row belongs to a cluster of kBlocks thread blocks, more of them the fewer rows there are. It is
// kept in shared memory, and all loops are short: a kernel starts with no instruction in a near
// cache, and a row takes less time than the code of an unrolled loop takes to arrive (docs/gpu.md).
template <CudaFloat kType, int kThreads, int kBlocks>
__global__ __launch_bounds__(kThreads) void quantize_kernel(QuantizeKernelArguments arguments) {
  constexpr int kCount = kKeptBytes / element_bytes(kType);
  using Kept = Chunk<kType, kCount>;
  // Other blocks' shared memory may be written once they have started.
  if constexpr (kBlocks > 1) ptx::cluster_arrive();
  begin_early_launch();
  extern __shared__ uint4 kept[];  // [i][thread] of the thread's i-th chunk
  __shared__ ClusterReduction<kThreads, kBlocks> shared;
  const std::int64_t row = blockIdx.x / kBlocks;
  const int rank = static_cast<int>(blockIdx.x % kBlocks);
  const int thread = static_cast<int>(threadIdx.x);
  const auto* x = reinterpret_cast<const uint4*>(arguments.x + row * arguments.x_row_bytes);
  std::int8_t* x8 = arguments.x8 + row * arguments.ld_x8;
  const int chunks = static_cast<int>(arguments.k / kCount);
  // Calls body(chunk, place) for every chunk of this thread; nobody else looks at its place.
  const auto for_chunks = [&](const auto& body) {
    int place = thread;
#pragma unroll 1
    for (int chunk = rank * kThreads + thread; chunk < chunks; chunk += kThreads * kBlocks) {
      body(chunk, place);
      place += kThreads;
    }
  };

  // All are under way before the first is waited for.
  const std::uint32_t shared_kept = ptx::shared_address(kept);
  for_chunks([&](int chunk, int place) {
    ptx::copy_16_bytes(shared_kept + place * kKeptBytes, x + chunk);
  });
  ptx::wait_for_words();
  std::uint32_t largest = 0;
  for_chunks([&](int, int place) {
    Kept values;
    values.load(kept, place);
#pragma unroll
    for (int j = 0; j < kCount; ++j) largest = max(largest, magnitude_bits(values.get(j)));
  });
  if constexpr (kBlocks > 1) ptx::cluster_wait();
  largest = largest_of_cluster(largest, shared, rank);
  const numerics::RowScale scale = row_scale_of_bits(largest);

  std::int32_t sum = 0;
  for_chunks([&](int chunk, int place) {
    Kept values;
    values.load(kept, place);
    std::uint32_t words[kCount / 4];
#pragma unroll
    for (int j = 0; j < kCount; j += 4) {
      words[j / 4] =
          quantize_four({values.get(j), values.get(j + 1), values.get(j + 2), values.get(j + 3)},
                        scale.reciprocal, sum);
    }
    if constexpr (kCount == 4) {
      reinterpret_cast<std::uint32_t*>(x8)[chunk] = words[0];
    } else {
      reinterpret_cast<uint2*>(x8)[chunk] = make_uint2(words[0], words[1]);
    }
  });
  write_scale_and_sum(sum, scale.scale, arguments.scale + row, arguments.sum + row, shared, rank);
}

// A row whose largest magnitude is known belongs to as many blocks as take kChunks chunks a thread.
struct KnownKernelArguments {
  QuantizeKernelArguments rows;
  CudaRowAmax amax;
  int blocks = 1;  // of a row
  Divisor by_blocks{1};
};

template <int kThreads, int kChunks>
__global__ __launch_bounds__(kThreads) void quantize_known_kernel(KnownKernelArguments arguments) {
  using Four = Chunk<CudaFloat::kFloat32, 4>;
  begin_early_launch();
  __shared__ Reduction<kThreads> shared;
  const QuantizeKernelArguments& rows = arguments.rows;
  const int block = static_cast<int>(blockIdx.x);
  const int row_of_block = arguments.by_blocks.divide(block);
  const int rank = block - row_of_block * arguments.blocks;
  const std::int64_t row = row_of_block;
  const void* x = rows.x + row * rows.x_row_bytes;
  auto* const x8 = reinterpret_cast<std::uint32_t*>(rows.x8 + row * rows.ld_x8);
  const int chunks = static_cast<int>(rows.k / 4);
  const int first = rank * kChunks * kThreads + static_cast<int>(threadIdx.x);
  Four fours[kChunks];
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    if (first + i * kThreads < chunks) fours[i].load(x, first + i * kThreads);
  }
  static_assert(32 % kCudaAmaxParts == 0);
  const std::int64_t part = threadIdx.x % kCudaAmaxParts;
  const std::uint32_t largest =
      __reduce_max_sync(0xFFFFFFFFu, arguments.amax.parts[part * arguments.amax.stride + row]);
  const numerics::RowScale scale = row_scale_of_bits(largest);
  std::int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    if (first + i * kThreads >= chunks) break;
    const float values[4] = {fours[i].get(0), fours[i].get(1), fours[i].get(2), fours[i].get(3)};
    x8[first + i * kThreads] = quantize_four(values, scale.reciprocal, sum);
  }
  sum = sum_of_block(sum, shared);
  if (threadIdx.x != 0) return;
  atomicAdd(rows.sum + row, sum);
  if (rank == 0) rows.scale[row] = scale.scale;
}

// ---- add_norm_quantize_rows --------------------------------------------------------------------

// A block a row, kept in registers where it fits; what does not fit is read again in the next pass,
// out of the caches.

struct NormKernelArguments {
  QuantizeKernelArguments rows;  // x null: nothing is added
  std::uint8_t* residual;
  std::int64_t residual_row_bytes;
  const float* weight;
  float epsilon;
  std::uint32_t* cleared;
  std::int64_t cleared_words;
};

template <CudaFloat kX, CudaFloat kResidual, int kNormKept>
__global__ __launch_bounds__(kNormThreads) void add_norm_quantize_kernel(
    NormKernelArguments arguments) {
  using XChunk = Chunk<kX, 4>;
  using ResidualChunk = Chunk<kResidual, 4>;
  using WeightChunk = Chunk<CudaFloat::kFloat32, 4>;
  ptx::launch_dependents();
  __shared__ Reduction<kNormThreads> shared;
  __shared__ float4 shared_lanes[kNormThreads];
  const std::int64_t row = blockIdx.x;
  const bool adds = arguments.rows.x != nullptr;
  const void* x = arguments.rows.x + (adds ? row * arguments.rows.x_row_bytes : 0);
  void* residual = arguments.residual + row * arguments.residual_row_bytes;
  std::int8_t* x8 = arguments.rows.x8 + row * arguments.rows.ld_x8;
  const int chunks = static_cast<int>(arguments.rows.k / 4);
  const int thread = static_cast<int>(threadIdx.x);

  // residual + x, rounded and stored; from here on the stored value counts.
  const auto add = [&](ResidualChunk& four, const XChunk& added, int chunk) {
#pragma unroll
    for (int j = 0; j < 4; ++j) four.set(j, four.get(j) + added.get(j));
    four.store(residual, chunk);
  };
  float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  const auto accumulate = [&](const ResidualChunk& four) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float value = four.get(j);
      lanes[j] = lanes[j] + value * value;
    }
  };

  // No kernel writes the weights: they come while the one in front ends.
  WeightChunk weights[kNormKept];
#pragma unroll
  for (int i = 0; i < kNormKept; ++i) {
    const int chunk = thread + i * kNormThreads;
    if (chunk < chunks) weights[i].load(arguments.weight, chunk);
  }
  ptx::wait_for_previous_kernel();

  ResidualChunk kept[kNormKept];
  {
    XChunk added[kNormKept];
#pragma unroll
    for (int i = 0; i < kNormKept; ++i) {
      const int chunk = thread + i * kNormThreads;
      if (chunk < chunks) {
        kept[i].load(residual, chunk);
        if (adds) added[i].load(x, chunk);
      }
    }
#pragma unroll
    for (int i = 0; i < kNormKept; ++i) {
      const int chunk = thread + i * kNormThreads;
      if (chunk < chunks) {
        if (adds) add(kept[i], added[i], chunk);
        accumulate(kept[i]);
      }
    }
  }
  // Word w by row w mod m.
  for (std::int64_t word = row + std::int64_t{thread} * gridDim.x; word < arguments.cleared_words;
       word += std::int64_t{kNormThreads} * gridDim.x) {
    arguments.cleared[word] = 0;
  }
  for (int chunk = thread + kNormKept * kNormThreads; chunk < chunks; chunk += kNormThreads) {
    ResidualChunk four;
    four.load(residual, chunk);
    if (adds) {
      XChunk added;
      added.load(x, chunk);
      add(four, added, chunk);
    }
    accumulate(four);
  }

  const float squares =
      fold_lanes(make_float4(lanes[0], lanes[1], lanes[2], lanes[3]), shared_lanes);
  const float reciprocal =
      numerics::rms_reciprocal(squares, static_cast<float>(arguments.rows.k), arguments.epsilon);

  const auto normalize = [&](const ResidualChunk& four, const WeightChunk& weight,
                             float(&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[j] = numerics::rms_apply(four.get(j), reciprocal, weight.get(j));
    }
  };
  std::uint32_t largest = 0;
  const auto measure = [&](const float(&values)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) largest = max(largest, magnitude_bits(values[j]));
  };
  float normed[kNormKept][4];
#pragma unroll
  for (int i = 0; i < kNormKept; ++i) {
    const int chunk = thread + i * kNormThreads;
    if (chunk < chunks) {
      normalize(kept[i], weights[i], normed[i]);
      measure(normed[i]);
    }
  }
  // A thread reads back only what it has stored itself.
  const auto normalize_again = [&](int chunk, float(&values)[4]) {
    ResidualChunk four;
    WeightChunk weight;
    four.load(residual, chunk);
    weight.load(arguments.weight, chunk);
    normalize(four, weight, values);
  };
  for (int chunk = thread + kNormKept * kNormThreads; chunk < chunks; chunk += kNormThreads) {
    float values[4];
    normalize_again(chunk, values);
    measure(values);
  }
  const numerics::RowScale scale = row_scale_of(largest, shared);

  std::int32_t sum = 0;
  const auto quantize = [&](const float(&values)[4], int chunk) {
    *reinterpret_cast<std::uint32_t*>(x8 + 4 * chunk) =
        quantize_four(values, scale.reciprocal, sum);
  };
#pragma unroll
  for (int i = 0; i < kNormKept; ++i) {
    const int chunk = thread + i * kNormThreads;
    if (chunk < chunks) quantize(normed[i], chunk);
  }
  for (int chunk = thread + kNormKept * kNormThreads; chunk < chunks; chunk += kNormThreads) {
    float values[4];
    normalize_again(chunk, values);
    quantize(values, chunk);
  }
  write_scale_and_sum(sum, scale.scale, arguments.rows.scale + row, arguments.rows.sum + row,
                      shared);
}

// ---- Launches ----------------------------------------------------------------------------------

// Of rows of up to kMostChunks chunks.
template <CudaFloat kType, int kThreads, int kBlocks, std::int64_t kMostChunks>
Status launch_quantize(const QuantizeKernelArguments& arguments, std::int64_t m,
                       std::int64_t chunks, cudaStream_t stream) {
  constexpr auto kKernel = quantize_kernel<kType, kThreads, kBlocks>;
  constexpr auto kept_bytes = [](std::int64_t count) {
    constexpr std::int64_t kAtOnce = kThreads * kBlocks;
    return static_cast<int>((count + kAtOnce - 1) / kAtOnce * kThreads * kKeptBytes);
  };
  // Once; remembers a failure too.
  static const Status opted_in =
      cuda_status(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       kept_bytes(kMostChunks)),
                  "cudaFuncSetAttribute(quantize_rows)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  launch_early_clusters(kKernel, static_cast<unsigned>(m * kBlocks), kThreads, kBlocks,
                        static_cast<std::size_t>(kept_bytes(chunks)), stream, arguments);
  return launch_status("quantize_rows");
}

template <CudaFloat kType>
Status quantize_typed_rows(const QuantizeKernelArguments& arguments, std::int64_t m,
                           cudaStream_t stream) {
  constexpr std::int64_t kCount = kKeptBytes / element_bytes(kType);
  constexpr std::int64_t kLongest = numerics::kMaxK / kCount;
  // One block where the row is short, or where many rows keep all multiprocessors busy, and two of
  // them fit into each.
  constexpr std::int64_t kOneBlock = 4096;
  const std::int64_t chunks = arguments.k / kCount;
  if (chunks <= 512) return launch_quantize<kType, 128, 1, 512>(arguments, m, chunks, stream);
  if (chunks <= 1024 || (m > 128 && chunks <= kOneBlock)) {
    return launch_quantize<kType, 512, 1, kOneBlock>(arguments, m, chunks, stream);
  }
  if (m <= 32) return launch_quantize<kType, 256, 8, kLongest>(arguments, m, chunks, stream);
  return launch_quantize<kType, 512, 2, kLongest>(arguments, m, chunks, stream);
}

template <int kThreads, int kChunks>
Status launch_quantize_known(KnownKernelArguments arguments, std::int64_t m, cudaStream_t stream) {
  constexpr std::int64_t kOfBlock = 4 * kThreads * kChunks;
  arguments.blocks = static_cast<int>((arguments.rows.k + kOfBlock - 1) / kOfBlock);
  arguments.by_blocks = Divisor(arguments.blocks);
  if (m * arguments.blocks > std::numeric_limits<std::int32_t>::max()) {
    return invalid_argument("quantize_rows: too many rows of known amax for one launch");
  }
  launch_early(quantize_known_kernel<kThreads, kChunks>,
               static_cast<unsigned>(m * arguments.blocks), kThreads, 0, stream, arguments);
  return launch_status("quantize_rows");
}

Status quantize_known_rows(const KnownKernelArguments& arguments, std::int64_t m,
                           cudaStream_t stream) {
  if (m <= 32) return launch_quantize_known<256, 1>(arguments, m, stream);
  return launch_quantize_known<256, 2>(arguments, m, stream);
}

template <CudaFloat kX, CudaFloat kResidual>
void launch_add_norm(const NormKernelArguments& arguments, std::int64_t m, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(m);
  if (arguments.rows.k <= 4 * numerics::kNormLanes) {
    launch_early(add_norm_quantize_kernel<kX, kResidual, 4>, grid, kNormThreads, 0, stream,
                 arguments);
  } else {
    launch_early(add_norm_quantize_kernel<kX, kResidual, 8>, grid, kNormThreads, 0, stream,
                 arguments);
  }
}

// Calls `body` with `type` as a constant.
template <typename Body>
Status with_type(CudaFloat type, const Body& body) {
  switch (type) {
    case CudaFloat::kFloat16: return body(std::integral_constant<CudaFloat, CudaFloat::kFloat16>{});
    case CudaFloat::kBFloat16:
      return body(std::integral_constant<CudaFloat, CudaFloat::kBFloat16>{});
    case CudaFloat::kFloat32: break;
  }
  return body(std::integral_constant<CudaFloat, CudaFloat::kFloat32>{});
}

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

bool known(CudaFloat type) {
  return type == CudaFloat::kFloat16 || type == CudaFloat::kBFloat16 || type == CudaFloat::kFloat32;
}

Status check_rows(const char* call, const char* name, const void* rows, std::int64_t ld,
                  std::int64_t k, int bytes, int alignment) {
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(call) + ": " + name + " " + what);
  };
  if (rows == nullptr) return refused("is null");
  if (ld < k) {
    return refused("has a row stride of " + std::to_string(ld) +
                   ", expected at least K = " + std::to_string(k));
  }
  if (!aligned(rows, alignment) || ld * bytes % alignment != 0) {
    return refused("needs rows that begin at multiples of " + std::to_string(alignment) +
                   " bytes (row stride " + std::to_string(ld) + ")");
  }
  return ok_status();
}

// All of `arguments` but x itself.
Status check_outputs(const char* call, const CudaQuantizeArguments& arguments, std::int64_t max_k) {
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(call) + ": " + what);
  };
  constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();
  if (arguments.m < 1 || arguments.m > kMaxRows) {
    return refused("M is " + std::to_string(arguments.m) + ", expected 1 to " +
                   std::to_string(kMaxRows));
  }
  if (arguments.k < 8 || arguments.k % 8 != 0 || arguments.k > max_k) {
    return refused("K is " + std::to_string(arguments.k) +
                   ", expected a multiple of 8 between 8 and " + std::to_string(max_k));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(
      check_rows(call, "x8", arguments.x8, arguments.ld_x8, arguments.k, 1, 8));
  if (arguments.scale == nullptr || !aligned(arguments.scale, alignof(float))) {
    return refused("scale is null or not 4-byte aligned");
  }
  if (arguments.sum == nullptr || !aligned(arguments.sum, alignof(std::int32_t))) {
    return refused("sum is null or not 4-byte aligned");
  }
  return ok_status();
}

Status check_x(const char* call, const CudaQuantizeArguments& arguments) {
  if (!known(arguments.type)) {
    return invalid_argument(std::string(call) + ": x has an unknown type");
  }
  return check_rows(call, "x", arguments.x, arguments.ld_x, arguments.k,
                    element_bytes(arguments.type), 16);
}

QuantizeKernelArguments kernel_arguments(const CudaQuantizeArguments& arguments) {
  QuantizeKernelArguments kernel;
  kernel.x = static_cast<const std::uint8_t*>(arguments.x);
  kernel.x_row_bytes = arguments.ld_x * element_bytes(arguments.type);
  kernel.x8 = arguments.x8;
  kernel.ld_x8 = arguments.ld_x8;
  kernel.scale = arguments.scale;
  kernel.sum = arguments.sum;
  kernel.k = arguments.k;
  return kernel;
}

}  // namespace
}  // namespace cuda

Status quantize_rows(const CudaQuantizeArguments& arguments, CudaStream stream) {
  constexpr const char* kCall = "quantize_rows";
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_outputs(kCall, arguments, numerics::kMaxK));
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_x(kCall, arguments));
  const cuda::QuantizeKernelArguments kernel = cuda::kernel_arguments(arguments);
  if (arguments.amax.parts != nullptr) {
    if (arguments.type != CudaFloat::kFloat32 || arguments.amax.stride < arguments.m) {
      return invalid_argument(std::string(kCall) + ": amax is of f32 rows alone, its stride (" +
                              std::to_string(arguments.amax.stride) + ") at least M, " +
                              std::to_string(arguments.m));
    }
    return cuda::quantize_known_rows({.rows = kernel, .amax = arguments.amax}, arguments.m, stream);
  }
  return cuda::with_type(arguments.type, [&](auto type) {
    return cuda::quantize_typed_rows<type.value>(kernel, arguments.m, stream);
  });
}

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
