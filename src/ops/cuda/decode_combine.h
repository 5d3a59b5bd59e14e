// The second half of decode attention: the splits of each sequence to one result.
#pragma once

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "ops/cuda/attention.h"

namespace liquidgemm::cuda {

// `partials` as decode_attention leaves them.
Status combine_splits(const DecodeAttention& arguments, const void* partials, int sequences,
                      CudaStream stream);

}  // namespace liquidgemm::cuda
