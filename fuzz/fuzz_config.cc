// config.json: what is accepted must survive being written and read again. The same text is tried
// as generation_config.json and tokenizer_config.json.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/checkpoint/huggingface_source.h"
#include "model/checkpoint/quantized_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = liquidgemm::parse_config(text, "config.json");
  if (config.ok()) {
    const std::string written = liquidgemm::config_to_json(*config);
    const auto again = liquidgemm::parse_config(written, "written");
    if (!again.ok()) std::abort();
    if (again->hidden_size != config->hidden_size || again->head_dim != config->head_dim ||
        again->eos_tokens != config->eos_tokens || again->qkv_bias != config->qkv_bias) {
      std::abort();
    }
    if (liquidgemm::weight_modules(*config).empty()) std::abort();
  } else {
    config = liquidgemm::ModelConfig();
    config->vocab_size = 100;
  }
  liquidgemm::GenerationDefaults defaults;
  (void)liquidgemm::parse_generation_config(text, "generation_config.json", *config, defaults).ok();
  (void)liquidgemm::parse_tokenizer_config(text, "tokenizer_config.json").ok();
  return 0;
}
