// A published checkpoint: weights, config, tokenizer and chat template, from a Hugging Face folder
// (safetensors) or from one GGUF file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "model/checkpoint/config.h"
#include "model/checkpoint/tensor_source.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

// generation_config.json: what the model's authors suggest. Missing fields stay empty.
struct GenerationDefaults {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
};

struct ModelSource {
  enum class Format { kHuggingFace, kGguf };
  Format format = Format::kHuggingFace;
  std::string path;  // the folder or the .gguf file

  ModelConfig config;
  GenerationDefaults generation;
  std::unique_ptr<TensorSource> tensors;

  TokenizerSpec tokenizer;
  std::string chat_template;  // empty when the model has none
  std::string bos_token;      // the text; empty when none
  std::string eos_token;

  // Weight bytes as published: every shard, or the .gguf file.
  std::int64_t stored_bytes = 0;
};

// Opens and checks everything but the weights' values. Never reads a pickle, never follows a name
// out of the folder. For a Hugging Face folder, `path` may hold a LiquidQuant checkpoint too.
Result<ModelSource> open_model_source(const std::string& path);

}  // namespace liquidgemm
