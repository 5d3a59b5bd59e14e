// How fast a layer of a checkpoint is brought into the kernels' layout: pack_weights() as a loader
// calls it, with its checks and its wait for the stream.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "base/median.h"
#include "bench/cuda/operands.h"
#include "bench/cuda/probes.h"

namespace liquidgemm::bench {
namespace {

constexpr int kCalls = 9;
constexpr int kGroupSize = 64;
constexpr std::uint64_t kSeed = 1;

// The seconds of kCalls calls, after one that is not counted.
Result<std::vector<double>> time_packing(const Shape& shape, cudaStream_t stream) {
  const CudaGemmDesc desc{.n = shape.n, .k = shape.k, .group_size = kGroupSize};
  LIQUIDGEMM_ASSIGN_OR_RETURN(const WeightFormats weights,
                              make_weights(shape, kGroupSize, false, kSeed, stream));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DeviceBuffer packed,
                              DeviceBuffer::allocate(packed_weight_bytes(desc), "packed weights"));
  const CudaWeightSource source = weights.source(shape.name);
  std::vector<double> seconds;
  for (int call = 0; call <= kCalls; ++call) {
    const auto begin = std::chrono::steady_clock::now();
    LIQUIDGEMM_RETURN_IF_ERROR(pack_weights(desc, source, packed.as<void>(), stream));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (call > 0) seconds.push_back(took.count());
  }
  return seconds;
}

}  // namespace

Result<PackingSpeed> packing_speed(Stopwatch& watch) {
  // The largest goal layer: what is read and what is written each exceed the L2 cache several
  // times, so that no call finds the last one's bytes there.
  const Shape large{"57344 x 8192", 57344, 8192};
  const Shape small{"64 x 128", 64, 128};
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<double> seconds,
                              time_packing(large, watch.stream()));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<double> fixed, time_packing(small, watch.stream()));
  const CudaGemmDesc desc{.n = large.n, .k = large.k, .group_size = kGroupSize};
  // Codes, steps, offsets and channel scales, read; all of the layout, written.
  const double bytes = weight_bytes(large, kGroupSize) +
                       static_cast<double>(large.n) * sizeof(float) +
                       static_cast<double>(packed_weight_bytes(desc));
  const auto microseconds = static_cast<int>(median(fixed) * 1e6 + 0.5);
  return PackingSpeed{bytes / *std::min_element(seconds.begin(), seconds.end()),
                      bytes / median(seconds),
                      std::to_string(kCalls) + " calls for " + large.name + ", groups of " +
                          std::to_string(kGroupSize) + "; a call for " + small.name + " takes " +
                          std::to_string(microseconds) + " us"};
}

}  // namespace liquidgemm::bench
