// The measurements behind the ceilings: small kernels that do one thing as fast as the chip can.
#pragma once

#include <string>

#include "bench/cuda/device.h"
#include "gemm/cuda/unpack_kind.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct Best {
  double value = 0.0;  // per second, or seconds for a cost
  std::string detail;  // the configuration that was best
};

enum class ReadPath {
  kLoads,  // 16-byte loads into registers
  kBulk,   // bulk copies (cp.async.bulk) into shared memory
};

// Bytes a second that all SMs together read.
Result<Best> device_memory_read(const CudaDevice& device, ReadPath path, Stopwatch& watch);
Result<Best> l2_read(const CudaDevice& device, ReadPath path, Stopwatch& watch);

// INT8 operations a second of wgmma m64n256k32, a multiply-add counted as two, nothing else going
// on. A comes from registers (u8 x s8) or from shared memory (s8 x s8), B from shared memory.
Result<Best> wgmma_rate(const CudaDevice& device, bool a_from_shared, Stopwatch& watch);

// How fast packed weights that lie in shared memory go through unpacking and wgmma at `tokens` 8,
// 64 or 128, two 64-row blocks a warp group: bytes of 4-bit codes a second.
Result<Best> unpack_feed(const CudaDevice& device, cuda::Unpack unpack, int tokens,
                         Stopwatch& watch);

// Seconds from one empty kernel to the next in a captured graph.
Result<Best> launch_cost(const CudaDevice& device, bool programmatic, Stopwatch& watch);

// Bytes a second that are read and written when a large layer is repacked.
struct PackingSpeed {
  double best = 0.0;
  double median = 0.0;
  std::string detail;
};
Result<PackingSpeed> packing_speed(Stopwatch& watch);

}  // namespace liquidgemm::bench
