#include <immintrin.h>

#include "bench/cpu/probes.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::bench::cpu {
namespace {

// kAhead: bytes that a software prefetch runs ahead of the loads; 0: the hardware's alone. At the
// end it runs past the data, which a prefetch may do.
template <int kStreams, int kAhead>
std::uint64_t read_streams(const void* data, std::int64_t bytes) {
  constexpr int kStep = 256;
  const std::int64_t length = bytes / kStreams;
  const char* begin = static_cast<const char*>(data);
  __m512i sums[4];
  LIQUIDGEMM_UNROLL
  for (int j = 0; j < 4; ++j) sums[j] = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < length; i += kStep) {
    LIQUIDGEMM_UNROLL
    for (int stream = 0; stream < kStreams; ++stream) {
      const char* at = begin + stream * length + i;
      LIQUIDGEMM_UNROLL
      for (int j = 0; j < 4; ++j) {
        if constexpr (kAhead > 0) _mm_prefetch(at + kAhead + 64 * j, _MM_HINT_T0);
        sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(at + 64 * j));
      }
    }
  }
  const __m512i all =
      _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm512_reduce_or_epi64(all));
}

// Chains of vpdpbusd on registers: enough of them to cover its latency, and nothing else.
template <int kChains>
std::uint64_t byte_products(std::int64_t iterations) {
  volatile char seed = 3;
  const __m512i weights = _mm512_set1_epi8(seed);
  const __m512i activations = _mm512_set1_epi8(static_cast<char>(-seed));
  __m512i chains[kChains];
  LIQUIDGEMM_UNROLL
  for (int i = 0; i < kChains; ++i) chains[i] = _mm512_set1_epi32(i);
  for (std::int64_t iteration = 0; iteration < iterations; ++iteration) {
    LIQUIDGEMM_UNROLL
    for (int i = 0; i < kChains; ++i) {
      chains[i] = _mm512_dpbusd_epi32(chains[i], weights, activations);
    }
  }
  __m512i all = chains[0];
  LIQUIDGEMM_UNROLL
  for (int i = 1; i < kChains; ++i) all = _mm512_xor_si512(all, chains[i]);
  return static_cast<std::uint64_t>(_mm512_reduce_or_epi64(all));
}

const ReadProbe kReads[] = {
    {"64 bytes a load, 1 stream", read_streams<1, 0>},
    {"64 bytes a load, 1 stream, prefetched 1 KiB ahead", read_streams<1, 1024>},
    {"64 bytes a load, 1 stream, prefetched 4 KiB ahead", read_streams<1, 4096>},
    {"64 bytes a load, 2 streams", read_streams<2, 0>},
    {"64 bytes a load, 4 streams", read_streams<4, 0>},
};
const OperationProbe kOperations[] = {
    {"vpdpbusd, 12 chains", 12 * 128, byte_products<12>},
    {"vpdpbusd, 24 chains", 24 * 128, byte_products<24>},
};

}  // namespace

const ProbeSet kAvx512Probes = {kReads, 5, kOperations, 2};

}  // namespace liquidgemm::bench::cpu
