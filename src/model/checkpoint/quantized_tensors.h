// Which tensors a checkpoint must hold, and whether it holds exactly those, with the right types
// and shapes. Only headers are looked at: values are checked where they are read (check_liquid_rows
// in quant/liquid_quant.h, the quantizer for NaN and infinities).
#pragma once

#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "model/checkpoint/config.h"
#include "model/checkpoint/tensor_source.h"

namespace liquidgemm {

inline constexpr const char* kEmbeddingModule = "model.embed_tokens";
inline constexpr const char* kHeadModule = "lm_head";

// Every module that holds a weight matrix, as [n, k]: the embedding, the linear layers in the order
// of the graph, and lm_head unless it is tied to the embedding.
std::vector<LinearName> weight_modules(const ModelConfig& config);

// The one-dimensional float tensors: name and length of every norm's weight.
struct NormName {
  std::string tensor;
  std::int64_t size = 0;
};
std::vector<NormName> norm_tensors(const ModelConfig& config);

// Unquantised: weights, biases and norms of any float or block type.
Status check_float_layout(const ModelConfig& config, const TensorSource& source);

// LiquidQuant (config.quantization is set): every tensor of docs/format.md, of its exact type and
// shape, and no tensor that the format does not know.
Status check_quantized_layout(const ModelConfig& config, const TensorSource& source);

}  // namespace liquidgemm
