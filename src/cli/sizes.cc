#include "cli/sizes.h"

#include <string>

namespace liquidgemm::cli {
namespace {

// The tensors that one weight matrix may consist of; biases are parameters of their own.
constexpr const char* kMatrixSuffixes[] = {".weight",       ".weight_packed", ".group_scale",
                                           ".group_offset", ".weight_int8",   ".weight_scale"};

double matrix_bytes(const TensorSource& tensors, const std::string& module) {
  double bytes = 0.0;
  for (const char* suffix : kMatrixSuffixes) {
    const TensorInfo* tensor = tensors.find(module + suffix);
    if (tensor != nullptr) bytes += static_cast<double>(tensor->bytes);
  }
  return bytes;
}

}  // namespace

Sizes measure_sizes(const ModelSource& source) {
  Sizes sizes;
  const ModelConfig& config = source.config;
  const auto hidden = static_cast<double>(config.hidden_size);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const LinearName& linear : layer_linears(config, layer)) {
      sizes.linear_weights += static_cast<double>(linear.n) * static_cast<double>(linear.k);
      sizes.linear_bytes += matrix_bytes(*source.tensors, linear.module);
      if (linear.bias) sizes.model_weights += static_cast<double>(linear.n);
    }
    sizes.model_weights += 2.0 * hidden;  // the two norms
    if (config.qk_norm) sizes.model_weights += 2.0 * static_cast<double>(config.head_dim);
  }
  const double table = static_cast<double>(config.vocab_size) * hidden;
  sizes.model_weights +=
      sizes.linear_weights + hidden + (config.tied_embeddings ? table : 2.0 * table);
  sizes.model_bytes = static_cast<double>(source.stored_bytes);
  return sizes;
}

Sizes bf16_sizes(const ModelSource& source) {
  Sizes sizes = measure_sizes(source);
  sizes.linear_bytes = 2.0 * sizes.linear_weights;
  sizes.model_bytes = 2.0 * sizes.model_weights;
  return sizes;
}

}  // namespace liquidgemm::cli
