#include "bench/model_cost.h"

#include <algorithm>

#include "ops/cpu/ops.h"

namespace liquidgemm::bench {
namespace {

double product(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

double kv_element_bytes(KvFormat format) {
  switch (format) {
    case KvFormat::kF32: return 4.0;
    case KvFormat::kF16:
    case KvFormat::kBf16: return 2.0;
    case KvFormat::kInt8:
    case KvFormat::kInt8Static: return 1.0;
    case KvFormat::kInt4: return 0.5;
  }
  return 4.0;
}

}  // namespace

ModelOperations model_operations(const ModelConfig& config) {
  ModelOperations operations;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const LinearName& linear : layer_linears(config, layer)) {
      operations.token += 2.0 * product(linear.n, linear.k);
    }
  }
  operations.logits = 2.0 * product(config.vocab_size, config.hidden_size);
  return operations;
}

double matrix_bytes(const ModelConfig& config, const std::string& module, std::int64_t n,
                    std::int64_t k) {
  const double scales = 4.0 * static_cast<double>(n);
  if (config.quantization) {
    const auto stored = config.quantization->layers.find(module);
    const bool known = stored != config.quantization->layers.end();
    if (known && stored->second.scheme == WeightScheme::kLiquid4) {
      const std::int64_t group = stored->second.group_size;
      return 0.5 * product(n, k) + 2.0 * product(n, (k + group - 1) / group) + scales;
    }
    if (known && stored->second.scheme == WeightScheme::kFp16) return 2.0 * product(n, k);
  }
  return product(n, k) + scales;
}

double model_bytes(const ModelConfig& config, const BackendLimits& limits) {
  const auto matrix = [&](const LinearName& linear) {
    return matrix_bytes(config, linear.module, linear.n, linear.k);
  };
  double bytes = 0.0;
  double largest = 0.0;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const LinearName& linear : layer_linears(config, layer)) {
      bytes += matrix(linear);
      largest = std::max(largest, matrix(linear));
    }
  }
  // The embedding's rows, the packed lm_head, and its checkpoint form while it is packed.
  const double table = product(config.vocab_size, config.hidden_size + 4);
  const double head = std::max(table, matrix({"lm_head", config.vocab_size, config.hidden_size}));
  bytes += table + head + 2.0 * std::max(head, largest);
  const double kv_values =
      2.0 * product(config.layers, config.kv_heads) *
      (static_cast<double>(config.head_dim) * kv_element_bytes(limits.kv_format) + 4.0);
  bytes += kv_values * product(limits.pages, kPageTokens);
  const double row =
      4.0 * static_cast<double>(5 * config.hidden_size + 4 * config.intermediate_size +
                                4 * config.heads * config.head_dim);
  return bytes + row * static_cast<double>(limits.max_rows) +
         4.0 * product(config.vocab_size, limits.max_logits_rows);
}

}  // namespace liquidgemm::bench
