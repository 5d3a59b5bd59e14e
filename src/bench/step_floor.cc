#include "bench/step_floor.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "bench/model_cost.h"

namespace liquidgemm::bench {
namespace {

bool is_fp16(const ModelConfig& config, const std::string& module) {
  if (!config.quantization) return false;
  const auto stored = config.quantization->layers.find(module);
  return stored != config.quantization->layers.end() &&
         stored->second.scheme == WeightScheme::kFp16;
}

}  // namespace

OperationSeconds step_floor(const ModelGraph& graph, const StepLoad& load,
                            const Ceilings& ceilings) {
  OperationSeconds floor{};
  const ModelConfig& config = graph.config;
  const double rate = ceilings.int8_operations_per_second / (load.half_weights ? 2.0 : 1.0);
  const auto add = [&](Operation kind, double bytes, double operations) {
    floor[static_cast<std::size_t>(kind)] +=
        std::max(bytes / ceilings.read_bytes_per_second, operations / rate);
  };
  const auto weight_bytes = [&](const std::string& module, std::int64_t n, std::int64_t k) {
    return load.half_weights ? 2.0 * static_cast<double>(n) * static_cast<double>(k)
                             : matrix_bytes(config, module, n, k);
  };
  const auto operations = [&](std::int64_t n, std::int64_t k) {
    return 2.0 * static_cast<double>(load.batch) * static_cast<double>(n) * static_cast<double>(k);
  };
  const auto add_group = [&](Operation kind, const LinearGroup& group) {
    double bytes = 0.0;
    for (const LinearName& part : group.parts) {
      bytes += weight_bytes(part.module, part.n, part.k);
      if (part.bias) bytes += 4.0 * static_cast<double>(part.n);
    }
    add(kind, bytes, operations(group.n, group.k));
  };
  const double kv_bytes =
      load.context_tokens * load.kv_token_bytes / static_cast<double>(config.layers);
  for (const DecoderLayer& layer : graph.layers) {
    add_group(Operation::kQkv, layer.qkv);
    add(Operation::kAttention, kv_bytes, 0.0);
    add_group(Operation::kOutput, layer.output);
    add_group(Operation::kGateUp, layer.gate_up);
    add_group(Operation::kDown, layer.down);
  }
  // An FP16 head among INT8 layers runs at half their rate.
  const double slower = is_fp16(config, graph.lm_head) && !load.half_weights ? 2.0 : 1.0;
  add(Operation::kLmHead, weight_bytes(graph.lm_head, config.vocab_size, config.hidden_size),
      slower * operations(config.vocab_size, config.hidden_size));
  return floor;
}

double floor_seconds(const OperationSeconds& floor) {
  return std::accumulate(floor.begin(), floor.end(), 0.0);
}

double step_bytes(const ModelGraph& graph, const StepLoad& load) {
  // A byte a second, operations for nothing.
  return floor_seconds(step_floor(graph, load, {1.0, std::numeric_limits<double>::infinity()}));
}

double int8_kv_token_bytes(const ModelConfig& config) {
  return 2.0 * static_cast<double>(config.layers * config.kv_heads * config.head_dim);
}

}  // namespace liquidgemm::bench
