#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "bench/cuda/probes.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/ptx/thread.h"

namespace liquidgemm::bench {
namespace {

constexpr int kReadThreads = 512;
constexpr int kUnroll = 4;
constexpr int kReplays = 4;

__global__ void fill(unsigned* words, std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; i < count;
       i += stride) {
    std::uint64_t x = i * 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    words[i] = static_cast<unsigned>(x * 0xbf58476d1ce4e5b9ull >> 32);
  }
}

// Reads `count` pieces of 16 bytes `passes` times. In each pass a block has another part, so that
// what it read before is not what it reads now. The result depends on everything that was read.
__global__ void __launch_bounds__(kReadThreads)
    read_by_loads(const uint4* data, std::size_t count, int passes, unsigned* out) {
  unsigned folded = 0;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kReadThreads;
  for (int pass = 0; pass < passes; ++pass) {
    const std::size_t block = (blockIdx.x + pass * 37u) % gridDim.x;
    std::size_t i = block * kReadThreads + threadIdx.x;
    for (; i + (kUnroll - 1) * stride < count; i += kUnroll * stride) {
      uint4 values[kUnroll];
#pragma unroll
      for (int j = 0; j < kUnroll; ++j) values[j] = __ldcg(data + i + j * stride);
#pragma unroll
      for (int j = 0; j < kUnroll; ++j) {
        folded ^= values[j].x ^ values[j].y ^ values[j].z ^ values[j].w;
      }
    }
    for (; i < count; i += stride) folded ^= __ldcg(data + i).x;
  }
  if (folded == 0x12345u) *out = folded;
}

// The same by bulk copies: one warp keeps `stages` copies of `chunk` bytes in flight.
__global__ void read_by_copies(const char* data, int chunks, int chunk, int stages, int passes) {
  extern __shared__ __align__(128) char shared[];
  __shared__ __align__(8) std::uint64_t barriers[32];
  if (threadIdx.x >= 32) return;
  using namespace cuda::ptx;
  for (int i = 0; i < stages; ++i) mbarrier_init(shared_address(&barriers[i]), 1);
  mbarrier_init_fence();
  int issued = 0;
  const auto wait_for = [&](int index) {
    mbarrier_wait(shared_address(&barriers[index % stages]), index / stages & 1);
  };
  for (int pass = 0; pass < passes; ++pass) {
    for (int i = (blockIdx.x + pass * 37u) % gridDim.x; i < chunks; i += gridDim.x) {
      if (issued >= stages) wait_for(issued - stages);
      const int stage = issued % stages;
      const std::uint32_t barrier = shared_address(&barriers[stage]);
      mbarrier_expect_bytes(barrier, chunk);
      copy_bulk(shared_address(shared + stage * chunk), data + static_cast<std::size_t>(i) * chunk,
                chunk, barrier, kEvictNormal);
      ++issued;
    }
  }
  for (int i = max(0, issued - stages); i < issued; ++i) wait_for(i);
}

__global__ void empty() {
  cuda::ptx::launch_dependents();
  cuda::ptx::wait_for_previous_kernel();
}

Result<DeviceBuffer> filled(std::size_t bytes, cudaStream_t stream) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                              DeviceBuffer::allocate(bytes, "a buffer to read"));
  fill<<<1024, 256, 0, stream>>>(buffer.as<unsigned>(), bytes / 4);
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("fill"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  return std::move(buffer);
}

void keep_faster(Best& best, double value, std::string detail) {
  if (value > best.value) best = {value, std::move(detail)};
}

Result<Best> read(const CudaDevice& device, ReadPath path, std::size_t bytes, int passes,
                  Stopwatch& watch) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DeviceBuffer buffer, filled(bytes, watch.stream()));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DeviceBuffer out, DeviceBuffer::allocate(4, "a result"));
  const double total = static_cast<double>(bytes) * passes;
  const std::string size = std::to_string(bytes >> 20) + " MiB";
  Best best;
  if (path == ReadPath::kLoads) {
    for (const int blocks : {1, 2, 4, 8, 16}) {
      const auto launch = [&](int, cudaStream_t stream) {
        read_by_loads<<<device.multiprocessors * blocks, kReadThreads, 0, stream>>>(
            buffer.as<uint4>(), bytes / 16, passes, out.as<unsigned>());
        return cuda::launch_status("read_by_loads");
      };
      LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.shortest(1, kReplays, launch));
      keep_faster(best, total / seconds, size + ", " + std::to_string(blocks) + " blocks an SM");
    }
    return best;
  }
  for (const auto& [chunk, stages] : {std::pair{8192, 16}, {16384, 8}, {16384, 12}, {4352, 32}}) {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaFuncSetAttribute(
        read_by_copies, cudaFuncAttributeMaxDynamicSharedMemorySize, chunk * stages));
    const int chunks = static_cast<int>(bytes / chunk);
    const auto launch = [&, chunk = chunk, stages = stages](int, cudaStream_t stream) {
      read_by_copies<<<device.multiprocessors, 32, chunk * stages, stream>>>(buffer.bytes(), chunks,
                                                                             chunk, stages, passes);
      return cuda::launch_status("read_by_copies");
    };
    LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.shortest(1, kReplays, launch));
    keep_faster(best, static_cast<double>(chunk) * chunks * passes / seconds,
                size + ", " + std::to_string(stages) + " copies of " + std::to_string(chunk) +
                    " B in flight an SM");
  }
  return best;
}

}  // namespace

Result<Best> device_memory_read(const CudaDevice& device, ReadPath path, Stopwatch& watch) {
  return read(device, path, std::size_t{2} << 30, 1, watch);
}

Result<Best> l2_read(const CudaDevice& device, ReadPath path, Stopwatch& watch) {
  // A third of the cache or so: it stays, wherever its lines fall.
  Best best;
  for (const std::size_t bytes : {std::size_t{16} << 20, std::size_t{24} << 20}) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(Best found, read(device, path, bytes, 50, watch));
    keep_faster(best, found.value, std::move(found.detail));
  }
  return best;
}

Result<Best> launch_cost(const CudaDevice& device, bool programmatic, Stopwatch& watch) {
  constexpr int kLaunches = 1000;
  const auto launch = [&](int, cudaStream_t stream) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(device.multiprocessors);
    config.blockDim = dim3(128);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = programmatic ? 1 : 0;
    return cuda::cuda_status(cudaLaunchKernelEx(&config, empty), "cudaLaunchKernelEx");
  };
  LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.shortest(kLaunches, kReplays, launch));
  return Best{seconds, std::to_string(device.multiprocessors) + " blocks of 128 threads, " +
                           std::to_string(kLaunches) + " launches"};
}

}  // namespace liquidgemm::bench
