#include <immintrin.h>

#include "bench/cpu/probes.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::bench::cpu {
namespace {

template <int kStreams>
std::uint64_t read_streams(const void* data, std::int64_t bytes) {
  constexpr int kStep = 128;
  const std::int64_t length = bytes / kStreams;
  const char* begin = static_cast<const char*>(data);
  __m256i sums[4] = {};
  for (std::int64_t i = 0; i < length; i += kStep) {
    LIQUIDGEMM_UNROLL
    for (int stream = 0; stream < kStreams; ++stream) {
      const char* at = begin + stream * length + i;
      LIQUIDGEMM_UNROLL
      for (int j = 0; j < 4; ++j) {
        const auto* vector = reinterpret_cast<const __m256i*>(at + 32 * j);
        sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(vector));
      }
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  alignas(32) std::uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), all);
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}

// Each result is the unsigned operand of its next product, so there is nothing but vpmaddubsw in
// the loop: 32 products and 16 additions each, counted as what a GEMM gets out of them, 64.
template <int kChains>
std::uint64_t byte_products(std::int64_t iterations) {
  volatile char seed = 3;
  const __m256i activations = _mm256_set1_epi8(seed);
  __m256i chains[kChains];
  LIQUIDGEMM_UNROLL
  for (int i = 0; i < kChains; ++i) chains[i] = _mm256_set1_epi16(static_cast<short>(seed + i));
  for (std::int64_t iteration = 0; iteration < iterations; ++iteration) {
    LIQUIDGEMM_UNROLL
    for (int i = 0; i < kChains; ++i) chains[i] = _mm256_maddubs_epi16(chains[i], activations);
  }
  __m256i all = chains[0];
  LIQUIDGEMM_UNROLL
  for (int i = 1; i < kChains; ++i) all = _mm256_xor_si256(all, chains[i]);
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0));
}

const ReadProbe kReads[] = {
    {"32 bytes a load, 1 stream", read_streams<1>},
    {"32 bytes a load, 2 streams", read_streams<2>},
};
const OperationProbe kOperations[] = {
    {"vpmaddubsw, 10 chains", 10 * 64, byte_products<10>},
    {"vpmaddubsw, 14 chains", 14 * 64, byte_products<14>},
};

}  // namespace

const ProbeSet kAvx2Probes = {kReads, 2, kOperations, 2};

}  // namespace liquidgemm::bench::cpu
