#include "ops_cuda/kv4_differences.h"

#include <cuda_fp16.h>

#include "gemm/numerics.h"
#include "ops/cuda/kv4_quotient.cuh"

namespace liquidgemm::cuda::testing {
namespace {

constexpr int kThreads = 256;
constexpr int kTurns = 16;  // of a thread, each with a middle of its own
constexpr int kHalves = 40;

// SplitMix64.
__device__ std::uint64_t next(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

__device__ float f16(std::uint64_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

__device__ bool differs(const Kv4Quotient& row, float x, float step, float middle) {
  // A row that holds such a value has no step that is a number, or an infinite middle.
  if (!(fabsf(x) < 0x1p+20f)) return false;
  const auto code = static_cast<std::uint32_t>(numerics::kv4_code(x, step, middle) + 8);
  return code != (row.is_usual() ? row.nibble(x) & 255 : static_cast<unsigned>(row.code() + 8));
}

// A block has one step.
__global__ void count_differences(std::uint64_t seed, unsigned long long* differences) {
  const float step = f16(blockIdx.x);
  const std::uint64_t thread = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  std::uint64_t state = seed + (thread << 32);
  unsigned long long own = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    float middle = f16(next(state));
    if (middle != middle) middle = 0.0f;
    if (isinf(step)) middle = step;
    const Kv4Quotient row(step, middle);
    for (int i = 0; i < kHalves; ++i) {
      const std::uint64_t bits = next(state);
      const auto sized = (bits & 0x807FFFFFu) | ((bits >> 32) % 147 << 23);  // all below 2^20
      const float value = __uint_as_float(static_cast<std::uint32_t>(sized));
      own += differs(row, value, step, middle) ? 1 : 0;
      const float beside = middle + step * (0.5f * static_cast<float>(i - kHalves / 2));
      const int away = static_cast<int>(bits >> 60 & 7) - 4;
      own += differs(row, __int_as_float(__float_as_int(beside) + away), step, middle) ? 1 : 0;
    }
  }
  if (own != 0) atomicAdd(differences, own);
}

}  // namespace

cudaError_t count_kv4_differences(std::uint64_t seed, unsigned long long* differences,
                                  cudaStream_t stream) {
  count_differences<<<1 << 16, kThreads, 0, stream>>>(seed, differences);
  return cudaGetLastError();
}

}  // namespace liquidgemm::cuda::testing
