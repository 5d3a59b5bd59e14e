#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "bench/cuda/probes.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/wgmma.h"
#include "gemm/cuda/unpack.h"

namespace liquidgemm::bench {
namespace {

using namespace cuda::ptx;

constexpr int kReplays = 4;
constexpr int kGroupSize = 64;
constexpr int kRateThreads = 256;       // two warp groups: 128 accumulators a thread each
constexpr int kWeightBlocks = 16;       // 64 x 128 weights each, read in turn
constexpr int kTokenBytes = 256 * 128;  // B: up to 256 tokens of 128 columns
constexpr int kAShared = 2 * 64 * 128;  // A of the two warp groups, from shared memory
constexpr int kFeedShared = kTokenBytes + kWeightBlocks * cuda::block_bytes(kGroupSize);

// Random bytes: products of zeros would run faster than real ones.
__device__ std::uint32_t random_word(std::uint32_t i) {
  i = (i ^ 61) ^ (i >> 16);
  i *= 9;
  i ^= i >> 4;
  i *= 0x27d4eb2d;
  return i ^ (i >> 15);
}

__device__ void fill_shared(std::uint8_t* shared, int bytes) {
  for (int i = threadIdx.x; i < bytes / 4; i += blockDim.x) {
    reinterpret_cast<std::uint32_t*>(shared)[i] = random_word(blockIdx.x * 65536 + i);
  }
  // What ordinary stores wrote is read by the tensor cores.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}

// Keeps the sums alive without writing them.
template <int kCount>
__device__ void consume(const int (&sums)[kCount], int* out) {
  int folded = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) folded ^= sums[i];
  if (folded == 0x12345) *out = folded;
}

template <bool kAFromShared>
__global__ void __launch_bounds__(kRateThreads, 1) wgmma_only(int steps, int* out) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  fill_shared(shared, kTokenBytes + kAShared);
  const int warp_group = threadIdx.x / 128;
  const std::uint64_t b = swizzled_descriptor(swizzled_descriptor_low(shared_address(shared)));
  const std::uint64_t a_shared = swizzled_descriptor(
      swizzled_descriptor_low(shared_address(shared + kTokenBytes + warp_group * 64 * 128)));
  std::uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = random_word(threadIdx.x * 4 + i);
  int sums[128] = {};
  for (int step = 0; step < steps; ++step) {  // 128 of K
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t k32 = i * kDescriptorK32;
      if constexpr (kAFromShared) {
        wgmma_s8s8_shared_n256(sums, a_shared + k32, b + k32);
      } else {
        wgmma_u8s8<256>(sums, a, b + k32, 1);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
  }
  consume(sums, out);
}

// Keeps the compiler from moving the last step of unpacking down between the wgmma that use it,
// where the assembler would have to wait.
__device__ __forceinline__ void keep_here(std::uint32_t (&fragments)[2][4]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) asm volatile("" : "+r"(fragments[i / 4][i % 4]));
}

// Each warp group has two row blocks. While the tensor cores work on one 64 columns the next are
// unpacked into the other pair of fragments.
template <cuda::Unpack kUnpack, int kTokens, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) unpack_and_multiply(int steps, int* out) {
  extern __shared__ __align__(1024) std::uint8_t shared[];
  fill_shared(shared, kFeedShared);
  const int warp_group = threadIdx.x / 128;
  const int thread = threadIdx.x % 128;
  using Codes = cuda::PackedCodes<kGroupSize, kUnpack>;
  const std::uint32_t blocks = shared_address(shared + kTokenBytes);
  const std::uint64_t b = swizzled_descriptor(swizzled_descriptor_low(shared_address(shared)));
  int sums[2][kTokens / 2] = {};
  std::uint32_t fragments[2][2][2][4];  // buffer, row block, k32
  const auto unpack = [&](int step, std::uint32_t(&buffer)[2][2][4]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int block = ((step / 2 * 3 + warp_group) * 2 + row) % kWeightBlocks;
      Codes codes;
      codes.load(Codes::place(blocks, thread), block * cuda::block_bytes(kGroupSize), step % 2);
      codes.unpack(buffer[row]);
      if constexpr (kUnpack == cuda::Unpack::kXor) keep_here(buffer[row]);
    }
  };
  const auto multiply = [&](int step, std::uint32_t(&buffer)[2][2][4]) {
    wgmma_fence();
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint64_t tokens = b + (step % 2 * 2 + i) * kDescriptorK32;
        if constexpr (kUnpack == cuda::Unpack::kUnsigned) {
          wgmma_u8s8<kTokens>(sums[row], buffer[row][i], tokens, 1);
        } else {
          wgmma_s8s8<kTokens>(sums[row], buffer[row][i], tokens, 1);
        }
      }
    }
    wgmma_commit();
  };
  unpack(0, fragments[0]);
  for (int step = 0; step < steps; step += 2) {  // 64 of K each
    multiply(0, fragments[0]);
    unpack(step + 1, fragments[1]);
    wgmma_wait<0>();
    multiply(1, fragments[1]);
    unpack(step + 2, fragments[0]);
    wgmma_wait<0>();
  }
  consume(sums[0], out);
  consume(sums[1], out);
}

using Kernel = void (*)(int, int*);

Result<double> seconds_of(Kernel kernel, const char* name, int threads, int shared_bytes, int steps,
                          const CudaDevice& device, Stopwatch& watch) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DeviceBuffer out, DeviceBuffer::allocate(4, "a result"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const auto launch = [&](int, cudaStream_t stream) {
    kernel<<<device.multiprocessors, threads, shared_bytes, stream>>>(steps, out.as<int>());
    return cuda::launch_status(name);
  };
  return watch.shortest(1, kReplays, launch);
}

template <cuda::Unpack kUnpack, int kTokens, int kThreads>
Result<Best> feed(const CudaDevice& device, Stopwatch& watch) {
  constexpr int kSteps = 8000;
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const double seconds,
      seconds_of(unpack_and_multiply<kUnpack, kTokens, kThreads>, "unpack_and_multiply", kThreads,
                 kFeedShared, kSteps, device, watch));
  const double weights = 1.0 * device.multiprocessors * (kThreads / 128) * 2 * 64 * 64 * kSteps;
  return Best{weights / 2 / seconds,
              std::to_string(kThreads / 128) + " warp groups, " +
                  std::to_string(weights * 2 * kTokens / seconds / 1e12).substr(0, 6) + " TOPS"};
}

template <cuda::Unpack kUnpack>
Result<Best> feed(const CudaDevice& device, int tokens, Stopwatch& watch) {
  switch (tokens) {
    case 8: return feed<kUnpack, 8, 384>(device, watch);
    case 64: return feed<kUnpack, 64, 384>(device, watch);
    case 128: return feed<kUnpack, 128, 256>(device, watch);
    default: return invalid_argument("the unpack feed is measured at 8, 64 and 128 tokens");
  }
}

}  // namespace

Result<Best> wgmma_rate(const CudaDevice& device, bool a_from_shared, Stopwatch& watch) {
  constexpr int kSteps = 4000;
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const double seconds,
      seconds_of(a_from_shared ? wgmma_only<true> : wgmma_only<false>, "wgmma_only", kRateThreads,
                 kTokenBytes + kAShared, kSteps, device, watch));
  const double operations =
      2.0 * device.multiprocessors * (kRateThreads / 128) * 64 * 256 * 128 * kSteps;
  return Best{operations / seconds, a_from_shared ? "s8 x s8" : "u8 x s8"};
}

Result<Best> unpack_feed(const CudaDevice& device, cuda::Unpack unpack, int tokens,
                         Stopwatch& watch) {
  switch (unpack) {
    case cuda::Unpack::kUnsigned: return feed<cuda::Unpack::kUnsigned>(device, tokens, watch);
    case cuda::Unpack::kXor: return feed<cuda::Unpack::kXor>(device, tokens, watch);
    case cuda::Unpack::kSubtract: break;
  }
  return feed<cuda::Unpack::kSubtract>(device, tokens, watch);
}

}  // namespace liquidgemm::bench
