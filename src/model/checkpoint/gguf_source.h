// A model from one GGUF file of llama.cpp's llama, qwen2 or qwen3 architecture, seen as if it were
// the Hugging Face folder it was made from.
#pragma once

#include <string>

#include "liquidgemm/status.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/model_source.h"

namespace liquidgemm {

Result<ModelSource> open_gguf_file(const std::string& path);

// The config that the metadata and the set of tensors imply.
Result<ModelConfig> config_from_gguf(const GgufFile& file);

// tokenizer.ggml.*; vocab_size is the limit of ids.
struct GgufTokenizer {
  TokenizerSpec spec;
  std::string chat_template;
  std::string bos_token;
  std::string eos_token;
};
Result<GgufTokenizer> tokenizer_from_gguf(const GgufMetadata& metadata, ModelConfig& config);

// Hugging Face's name of a tensor; empty when it has none.
std::string hugging_face_name(std::string_view gguf_name);

// llama.cpp stores Llama 3.1's frequency scaling as the tensor rope_freqs.weight: what each
// frequency is divided by. Finds the published parameters that give these factors.
Result<RopeScaling> rope_scaling_from_factors(std::span<const float> factors, double theta,
                                              const std::string& where);

}  // namespace liquidgemm
