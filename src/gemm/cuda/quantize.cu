// Activations to INT8 on the GPU, bit-equal to the CPU.
//
// A thread takes whole chunks of consecutive elements: chunk c belongs to thread c mod threads, so
// that the loads and stores of a warp are contiguous.
#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/divisor.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/quantize_arguments.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/row_chunk.cuh"
#include "gemm/numerics.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace cuda {
namespace {

// ---- quantize_rows -----------------------------------------------------------------------------

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

}  // namespace liquidgemm
