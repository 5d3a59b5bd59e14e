// The backend of a Hopper GPU: W4A8 linear layers, paged KV in f16, bf16, int8 or int4, one stream.
//
// All activations are float32 between the layers, as on the CPU, so everything but attention has
// the CPU's bits; attention's sums run on tensor cores (docs/numerics.md).
#pragma once

#include <cstdint>
#include <memory>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "model/backend.h"

namespace liquidgemm {

struct CudaBackendOptions {
  int device = 0;
  // What weights, KV cache and buffers may take together; 0: what is free, but for a reserve.
  std::size_t memory_bytes = 0;
  // Decode steps are recorded as CUDA graphs and replayed.
  bool graphs = true;
};

// Ok where this build and this machine can run models on a GPU; kUnsupported says why not.
Status cuda_usable(int device = 0);

// kUnsupported where there is no such GPU or this build has no CUDA. With BackendLimits::pages <=
// 0, plan() takes as many pages as fit, at most those that max_sequences of max_position tokens
// fill.
Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options);

}  // namespace liquidgemm
