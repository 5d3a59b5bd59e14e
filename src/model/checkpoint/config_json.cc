// The other direction: a ModelConfig as config.json, with the names that transformers uses.
#include "model/checkpoint/config_fields.h"

namespace liquidgemm {
namespace {

std::string_view scheme_name(WeightScheme scheme) {
  switch (scheme) {
    case WeightScheme::kFloat: return "float";
    case WeightScheme::kInt8: return "int8";
    case WeightScheme::kLiquid4: return "liquid4";
    case WeightScheme::kFp16: return "fp16";
  }
  return "?";
}

json::Value rope_scaling_to_json(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: return nullptr;
    case RopeScaling::Kind::kLinear:
      return json::Object{{"rope_type", "linear"}, {"factor", scaling.factor}};
    case RopeScaling::Kind::kLlama3:
      return json::Object{{"rope_type", "llama3"},
                          {"factor", scaling.factor},
                          {"low_freq_factor", scaling.low_freq_factor},
                          {"high_freq_factor", scaling.high_freq_factor},
                          {"original_max_position_embeddings", scaling.original_max_position}};
  }
  return nullptr;
}

}  // namespace

json::Value quantization_to_json(const QuantizationConfig& quantization) {
  json::Object layers;
  for (const auto& [module, layer] : quantization.layers) {
    json::Object entry{{"scheme", scheme_name(layer.scheme)}};
    if (layer.scheme == WeightScheme::kLiquid4) entry["group_size"] = layer.group_size;
    layers[module] = std::move(entry);
  }
  return json::Object{{"quant_method", "liquidquant"},
                      {"format_version", quantization.format_version},
                      {"bits", 4},
                      {"group_size", quantization.group_size},
                      {"layers", std::move(layers)}};
}

std::string config_to_json(const ModelConfig& config) {
  const FamilyTraits& traits = family_traits(config.family);
  json::Object object{{"architectures", json::Array{traits.architecture}},
                      {"model_type", traits.model_type},
                      {"hidden_size", config.hidden_size},
                      {"intermediate_size", config.intermediate_size},
                      {"num_hidden_layers", config.layers},
                      {"num_attention_heads", config.heads},
                      {"num_key_value_heads", config.kv_heads},
                      {"head_dim", config.head_dim},
                      {"vocab_size", config.vocab_size},
                      {"max_position_embeddings", config.max_position},
                      {"rms_norm_eps", config.rms_norm_eps},
                      {"rope_theta", config.rope_theta},
                      {"rope_scaling", rope_scaling_to_json(config.rope_scaling)},
                      {"tie_word_embeddings", config.tied_embeddings},
                      {"hidden_act", "silu"}};
  switch (config.family) {
    case ModelFamily::kLlama:
      object["attention_bias"] = config.qkv_bias;
      object["mlp_bias"] = config.mlp_bias;
      break;
    case ModelFamily::kQwen2: object["use_sliding_window"] = false; break;
    case ModelFamily::kQwen3:
      object["attention_bias"] = config.qkv_bias;
      object["use_sliding_window"] = false;
      break;
  }
  if (config.bos_token) object["bos_token_id"] = *config.bos_token;
  if (config.eos_tokens.size() == 1) {
    object["eos_token_id"] = config.eos_tokens.front();
  } else if (!config.eos_tokens.empty()) {
    json::Array ids;
    for (std::int64_t id : config.eos_tokens) ids.push_back(id);
    object["eos_token_id"] = std::move(ids);
  }
  if (config.quantization) {
    object["quantization_config"] = quantization_to_json(*config.quantization);
  }
  return json::dump_pretty(object);
}

}  // namespace liquidgemm
