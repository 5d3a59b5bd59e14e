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

// Chains of vpdpbusd on registers: enough of them to cover its latency, and nothing else. Written
// in assembly, because compilers put moves of accumulators, or even stores, between the
// instructions.
#define LIQUIDGEMM_CHAINS(registers, iterations, weights, activations)                             \
  __asm__ volatile(".irp r," registers                                                             \
                   "\n vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n .endr\n"                              \
                   "1:\n .irp r," registers                                                        \
                   "\n vpdpbusd %[x], %[w], %%zmm\\r\n .endr\n"                                    \
                   "dec %[count]\n jnz 1b\n"                                                       \
                   : [count] "+r"(iterations)                                                      \
                   : [w] "v"(weights), [x] "v"(activations)                                        \
                   : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                     "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",        \
                     "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23")

void twelve_chains(std::int64_t iterations) {
  const __m512i weights = _mm512_set1_epi8(-91);
  const __m512i activations = _mm512_set1_epi8(77);
  LIQUIDGEMM_CHAINS("0,1,2,3,4,5,6,7,8,9,10,11", iterations, weights, activations);
  _mm256_zeroupper();  // what the compiler cannot see that it needs
}

void many_chains(std::int64_t iterations) {
  const __m512i weights = _mm512_set1_epi8(-91);
  const __m512i activations = _mm512_set1_epi8(77);
  LIQUIDGEMM_CHAINS("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23", iterations,
                    weights, activations);
  _mm256_zeroupper();  // what the compiler cannot see that it needs
}

const ReadProbe kReads[] = {
    {"64 bytes a load, 1 stream", read_streams<1, 0>},
    {"64 bytes a load, 1 stream, prefetched 1 KiB ahead", read_streams<1, 1024>},
    {"64 bytes a load, 1 stream, prefetched 4 KiB ahead", read_streams<1, 4096>},
    {"64 bytes a load, 2 streams", read_streams<2, 0>},
    {"64 bytes a load, 4 streams", read_streams<4, 0>},
};
const OperationProbe kOperations[] = {
    {"vpdpbusd, 12 chains", 12 * 128, twelve_chains},
    {"vpdpbusd, 24 chains", 24 * 128, many_chains},
};

}  // namespace

const ProbeSet kAvx512Probes = {kReads, 5, kOperations, 2};

}  // namespace liquidgemm::bench::cpu
