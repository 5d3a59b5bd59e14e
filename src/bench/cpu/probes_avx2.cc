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
// the loop: 32 products and 16 additions each, counted as what a GEMM gets out of them, 64. Written
// in assembly, because compilers put moves or even stores between the instructions.
#define LIQUIDGEMM_CHAINS(registers, iterations, activations)                                      \
  __asm__ volatile(".irp r," registers                                                             \
                   "\n vmovdqa %[x], %%ymm\\r\n .endr\n"                                           \
                   "1:\n .irp r," registers                                                        \
                   "\n vpmaddubsw %[x], %%ymm\\r, %%ymm\\r\n .endr\n"                              \
                   "dec %[count]\n jnz 1b\n"                                                       \
                   : [count] "+r"(iterations)                                                      \
                   : [x] "x"(activations)                                                          \
                   : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                     "xmm9", "xmm10", "xmm11", "xmm12", "xmm13")

void ten_chains(std::int64_t iterations) {
  const __m256i activations = _mm256_set1_epi8(77);
  LIQUIDGEMM_CHAINS("0,1,2,3,4,5,6,7,8,9", iterations, activations);
  _mm256_zeroupper();  // what the compiler cannot see that it needs
}

void many_chains(std::int64_t iterations) {
  const __m256i activations = _mm256_set1_epi8(77);
  LIQUIDGEMM_CHAINS("0,1,2,3,4,5,6,7,8,9,10,11,12,13", iterations, activations);
  _mm256_zeroupper();  // what the compiler cannot see that it needs
}

const ReadProbe kReads[] = {
    {"32 bytes a load, 1 stream", read_streams<1>},
    {"32 bytes a load, 2 streams", read_streams<2>},
};
const OperationProbe kOperations[] = {
    {"vpmaddubsw, 10 chains", 10 * 64, ten_chains},
    {"vpmaddubsw, 14 chains", 14 * 64, many_chains},
};

}  // namespace

const ProbeSet kAvx2Probes = {kReads, 2, kOperations, 2};

}  // namespace liquidgemm::bench::cpu
