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

std::uint64_t dot_products(std::int64_t iterations) {
  std::int32_t total = 0;
  for (std::int64_t i = 0; i < iterations; ++i) {
    std::int32_t sum = 0;
    for (int k = 0; k < kLength; ++k) sum += weights[k] * activations[k];
    total ^= sum;
    // The data may have changed, says this: the next product is not known from the last one.
    __asm__ volatile("" : : "r"(weights), "r"(activations) : "memory");
  }
  return static_cast<std::uint32_t>(total);
}

const ReadProbe kReads[] = {{"8 bytes a load, 1 stream", read_words}};
const OperationProbe kOperations[] = {{"bytes in plain C++", 2 * kLength, dot_products}};

}  // namespace

const ProbeSet kScalarProbes = {kReads, 1, kOperations, 1};

}  // namespace liquidgemm::bench::cpu
