// Kv4Quotient beside the contract's codes, for every step that a row can have.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace liquidgemm::cuda::testing {

// Adds to `differences` (device memory) how many codes are other ones: all steps of f16, those that
// are infinite or NaN too, each with random middles and values of all sizes, and with values beside
// the middle between two codes.
cudaError_t count_kv4_differences(std::uint64_t seed, unsigned long long* differences,
                                  cudaStream_t stream);

}  // namespace liquidgemm::cuda::testing
