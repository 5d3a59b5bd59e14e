// What a model must compute and keep, from its config alone.
#pragma once

#include <cstdint>
#include <string>

#include "model/backend.h"
#include "model/checkpoint/config.h"

namespace liquidgemm::bench {

// INT8 operations of the linear layers; a multiplication and its addition are two. Attention is
// not among them.
struct ModelOperations {
  double token = 0.0;   // through all layers
  double logits = 0.0;  // of one row whose logits are wanted: lm_head
};
ModelOperations model_operations(const ModelConfig& config);

// Bytes of one matrix as the checkpoint stores it: codes, and what belongs to groups and channels.
// `module` is a linear layer, an embedding or a head.
double matrix_bytes(const ModelConfig& config, const std::string& module, std::int64_t n,
                    std::int64_t k);

// Bytes that a quantized model takes when it runs, while it is being packed: weights, tables, KV
// cache and work buffers. An estimate from above; nothing is allocated.
double model_bytes(const ModelConfig& config, const BackendLimits& limits);

}  // namespace liquidgemm::bench
