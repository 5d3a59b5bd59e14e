// silu_multiply() beside the contract, for every gate that a float can be.
#pragma once

#include <cuda_runtime_api.h>

namespace liquidgemm::cuda::testing {

// Adds to `differences` (device memory) how many of all 2^32 gates give other bits with `up`, or
// for a NaN something else.
cudaError_t count_silu_differences(float up, unsigned long long* differences, cudaStream_t stream);

}  // namespace liquidgemm::cuda::testing
