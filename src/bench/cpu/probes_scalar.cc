// Plain C++, which the compiler may vectorise for the baseline machine as it does the kernels.
#include "bench/cpu/probes.h"

namespace liquidgemm::bench::cpu {
namespace {

std::uint64_t read_words(const void* data, std::int64_t bytes) {
  const auto* words = static_cast<const std::uint64_t*>(data);
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < bytes / 8; ++i) sum ^= words[i];
  return sum;
}

constexpr int kLength = 2048;
std::uint8_t weights[kLength];
std::int8_t activations[kLength];

void dot_products(std::int64_t iterations) {
  for (std::int64_t i = 0; i < iterations; ++i) {
    std::int32_t sum = 0;
    for (int k = 0; k < kLength; ++k) sum += weights[k] * activations[k];
    // Says that the sum is used, and that the data may have changed: the next sum is another one.
    __asm__ volatile("" : : "r"(sum), "r"(weights), "r"(activations) : "memory");
  }
}

const ReadProbe kReads[] = {{"8 bytes a load, 1 stream", read_words}};
const OperationProbe kOperations[] = {{"bytes in plain C++", 2 * kLength, dot_products}};

}  // namespace

const ProbeSet kScalarProbes = {kReads, 1, kOperations, 1};

}  // namespace liquidgemm::bench::cpu
