#include "model/checkpoint/presets.h"

#include <array>

namespace liquidgemm {
namespace {

struct Preset {
  std::string_view name;
  std::int64_t hidden_size, intermediate_size, layers, heads, kv_heads, vocab_size, max_position;
  double rope_theta;
  bool tied_embeddings;
};

constexpr std::array<Preset, 4> kPresets = {{
    {"smollm2-135m", 576, 1536, 30, 9, 3, 49152, 8192, 1e5, true},
    {"1b", 2048, 8192, 16, 32, 8, 32000, 8192, 1e4, false},
    {"llama-2-7b", 4096, 11008, 32, 32, 32, 32000, 4096, 1e4, false},
    {"llama-3-8b", 4096, 14336, 32, 32, 8, 128256, 8192, 5e5, false},
}};

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

Result<ModelConfig> preset_config(std::string_view name) {
  std::string known;
  for (const Preset& preset : kPresets) {
    if (preset.name == name) {
      ModelConfig config;
      config.architecture = "LlamaForCausalLM";
      config.hidden_size = preset.hidden_size;
      config.intermediate_size = preset.intermediate_size;
      config.layers = preset.layers;
      config.heads = preset.heads;
      config.kv_heads = preset.kv_heads;
      config.head_dim = preset.hidden_size / preset.heads;
      config.vocab_size = preset.vocab_size;
      config.max_position = preset.max_position;
      config.rms_norm_eps = 1e-5;
      config.rope_theta = preset.rope_theta;
      config.tied_embeddings = preset.tied_embeddings;
      return config;
    }
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  return not_found("preset \"" + std::string(name) + "\" is not known: expected one of " + known);
}

}  // namespace liquidgemm
