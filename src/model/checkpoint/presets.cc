#include "model/checkpoint/presets.h"

#include <algorithm>
#include <array>

namespace liquidgemm {
namespace {

struct Preset {
  std::string_view name;
  ModelFamily family;
  std::int64_t hidden_size, intermediate_size, layers, heads, kv_heads, vocab_size, max_position;
  double rope_theta, rms_norm_eps;
  bool tied_embeddings;
};

constexpr ModelFamily kLlama = ModelFamily::kLlama;
constexpr ModelFamily kQwen2 = ModelFamily::kQwen2;

// As the models' config.json have them. Mistral's is v0.1, of which attention's window is left out:
// up to its 4096 tokens there is no difference.
constexpr std::array<Preset, 9> kPresets = {{
    {"smollm2-135m", kLlama, 576, 1536, 30, 9, 3, 49152, 8192, 1e5, 1e-5, true},
    {"1b", kLlama, 2048, 8192, 16, 32, 8, 32000, 8192, 1e4, 1e-5, false},
    {"llama2-7b", kLlama, 4096, 11008, 32, 32, 32, 32000, 4096, 1e4, 1e-5, false},
    {"mistral-7b", kLlama, 4096, 14336, 32, 32, 8, 32000, 32768, 1e4, 1e-5, false},
    {"qwen2.5-7b", kQwen2, 3584, 18944, 28, 28, 4, 152064, 131072, 1e6, 1e-6, false},
    {"llama3-8b", kLlama, 4096, 14336, 32, 32, 8, 128256, 8192, 5e5, 1e-5, false},
    {"llama2-13b", kLlama, 5120, 13824, 40, 40, 40, 32000, 4096, 1e4, 1e-5, false},
    {"yi-34b", kLlama, 7168, 20480, 60, 56, 8, 64000, 4096, 5e6, 1e-5, false},
    {"llama2-70b", kLlama, 8192, 28672, 80, 64, 8, 32000, 4096, 1e4, 1e-5, false},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kAliases = {{
    {"llama-2-7b", "llama2-7b"},
    {"llama-3-8b", "llama3-8b"},
}};

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

std::string_view preset_of_alias(std::string_view name) {
  const auto* const alias = std::find_if(kAliases.begin(), kAliases.end(),
                                         [&](const auto& pair) { return pair.first == name; });
  return alias == kAliases.end() ? name : alias->second;
}

Result<ModelConfig> preset_config(std::string_view name) {
  std::string known;
  for (const Preset& preset : kPresets) {
    if (preset.name == preset_of_alias(name)) {
      ModelConfig config;
      config.family = preset.family;
      config.architecture = preset.family == kQwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM";
      config.qkv_bias = preset.family == kQwen2;
      config.hidden_size = preset.hidden_size;
      config.intermediate_size = preset.intermediate_size;
      config.layers = preset.layers;
      config.heads = preset.heads;
      config.kv_heads = preset.kv_heads;
      config.head_dim = preset.hidden_size / preset.heads;
      config.vocab_size = preset.vocab_size;
      config.max_position = preset.max_position;
      config.rms_norm_eps = preset.rms_norm_eps;
      config.rope_theta = preset.rope_theta;
      config.tied_embeddings = preset.tied_embeddings;
      return config;
    }
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  return not_found("preset \"" + std::string(name) + "\" is not known: expected one of " + known);
}

}  // namespace liquidgemm
