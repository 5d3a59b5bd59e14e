// What config.json says about a model, in one struct for all families.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

enum class ModelFamily { kLlama, kQwen2, kQwen3 };

// Llama 3.1's frequency scaling ("rope_type": "llama3"), or plain linear position scaling.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_max_position = 8192;
};

// How one weight matrix is stored. kFp16: the head's alone.
enum class WeightScheme { kFloat, kInt8, kLiquid4, kFp16 };

struct LayerQuantization {
  WeightScheme scheme = WeightScheme::kFloat;
  int group_size = 0;  // kLiquid4 only: 32, 64 or 128
};

// config.json's "quantization_config" of a LiquidQuant checkpoint (docs/format.md).
struct QuantizationConfig {
  int format_version = 1;
  int group_size = 64;
  std::map<std::string, LayerQuantization> layers;  // by module name, e.g. "lm_head"
};

struct ModelConfig {
  ModelFamily family = ModelFamily::kLlama;
  std::string architecture;  // "LlamaForCausalLM", ...
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_position = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;
  bool qkv_bias = false;     // Qwen2
  bool output_bias = false;  // Llama with attention_bias
  bool mlp_bias = false;
  bool qk_norm = false;  // Qwen3: RMSNorm over each head of q and k
  std::optional<std::int64_t> bos_token;
  std::vector<std::int64_t> eos_tokens;  // config.json and generation_config.json together
  std::optional<QuantizationConfig> quantization;
};

// Reads the text of a Hugging Face config.json. Every size is checked: positive, below the limits
// in config.cc, heads a multiple of kv_heads, head_dim even. `where` names the file in messages.
Result<ModelConfig> parse_config(std::string_view text, const std::string& where);

// A config.json that parse_config reads back to the same values, for sources that have none (GGUF).
std::string config_to_json(const ModelConfig& config);

// "quantization_config" as it is stored, and back.
json::Value quantization_to_json(const QuantizationConfig& quantization);

// One linear layer of the decoder as the checkpoint names it.
struct LinearName {
  std::string module;  // "model.layers.3.self_attn.q_proj"
  std::int64_t n = 0;  // output features
  std::int64_t k = 0;  // input features
  bool bias = false;
};

// All linear layers of layer `layer`, in the order q, k, v, o, gate, up, down.
std::vector<LinearName> layer_linears(const ModelConfig& config, std::int64_t layer);

}  // namespace liquidgemm
