// A Hugging Face folder: config.json, generation_config.json, safetensors, tokenizer.json,
// tokenizer_config.json, chat_template.jinja. LiquidQuant checkpoints are such folders too.
#pragma once

#include <string>
#include <string_view>

#include "liquidgemm/status.h"
#include "model/checkpoint/model_source.h"

namespace liquidgemm {

Result<ModelSource> open_hugging_face_folder(const std::string& path);

// generation_config.json: adds its eos_token_id to the config's and fills `defaults`.
Status parse_generation_config(std::string_view text, const std::string& where, ModelConfig& config,
                               GenerationDefaults& defaults);

// What tokenizer_config.json adds to tokenizer.json.
struct TokenizerConfig {
  std::string bos_token;
  std::string eos_token;
  std::string chat_template;             // empty when there is none
  std::vector<AddedToken> added_tokens;  // "added_tokens_decoder"
};
Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& where);

// Ids of the tokenizer must be rows of the embedding.
Status check_tokenizer_fits(const TokenizerSpec& tokenizer, const ModelConfig& config,
                            const std::string& where);

}  // namespace liquidgemm
