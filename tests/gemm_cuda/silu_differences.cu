#include "gemm_cuda/silu_differences.h"

#include "gemm/cuda/silu_multiply.cuh"
#include "gemm/numerics.h"

namespace liquidgemm::cuda::testing {
namespace {

constexpr int kThreads = 256;

__global__ void count_differences(unsigned long long* differences, std::uint32_t up_bits) {
  const float up = __uint_as_float(up_bits);
  const std::uint64_t step = std::uint64_t{gridDim.x} * kThreads;
  unsigned long long own = 0;
  for (std::uint64_t bits = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x; bits < 1ull << 32;
       bits += step) {
    const float gate = __uint_as_float(static_cast<std::uint32_t>(bits));
    const float expected = numerics::silu(gate) * up;
    // Alone, beside a usual gate, and beside one that is none.
    float alone[1], usual[2], unusual[2];
    silu_multiply({gate}, {up}, alone);
    silu_multiply({gate, 1.0f}, {up, 2.0f}, usual);
    silu_multiply({gate, 2.0f * kLargestUsualGate}, {up, 2.0f}, unusual);
    for (const float found : {alone[0], usual[0], unusual[0]}) {
      const bool same = expected == expected ? __float_as_uint(found) == __float_as_uint(expected)
                                             : found != found;
      own += same ? 0 : 1;
    }
  }
  if (own != 0) atomicAdd(differences, own);
}

}  // namespace

cudaError_t count_silu_differences(float up, unsigned long long* differences, cudaStream_t stream) {
  count_differences<<<1024, kThreads, 0, stream>>>(differences, __builtin_bit_cast(unsigned, up));
  return cudaGetLastError();
}

}  // namespace liquidgemm::cuda::testing
