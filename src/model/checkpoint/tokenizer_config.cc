// tokenizer_config.json and generation_config.json: the small files beside the weights.
#include <algorithm>

#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/huggingface_source.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

// A special token is written as its text or as {"content": text, ...}.
Result<std::string> read_token_text(const json::Reader& reader, std::string_view name,
                                    const std::string& where) {
  const json::Value* value = reader.object().if_contains(name);
  if (value == nullptr || value->is_null()) return std::string();
  if (const json::Object* object = value->if_object()) {
    return json::Reader(*object, where, std::string(name)).required_string("content");
  }
  return reader.required_string(name);
}

// One string, or a list of {"name", "template"}: then the one named "default", or the only one.
Result<std::string> read_chat_template(const json::Reader& reader, const std::string& where) {
  const json::Value* value = reader.object().if_contains("chat_template");
  if (value == nullptr || value->is_null()) return std::string();
  if (!value->is_array()) return reader.required_string("chat_template");
  const json::Array& list = *value->if_array();
  std::string chosen;
  for (const json::Value& item : list) {
    const json::Object* entry = item.if_object();
    if (entry == nullptr) {
      return corrupt(reader.field("chat_template") + ": expected a list of objects");
    }
    const json::Reader inner(*entry, where, "chat_template");
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::string name, inner.required_string("name"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::string text, inner.required_string("template"));
    if (name == "default" || list.size() == 1) chosen = std::move(text);
  }
  return chosen;
}

Result<std::vector<AddedToken>> read_added_tokens(const json::Reader& reader,
                                                  const std::string& where) {
  constexpr const char* kName = "added_tokens_decoder";
  std::vector<AddedToken> tokens;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* entries, reader.optional_object(kName));
  if (entries == nullptr) return tokens;
  for (const auto& [key, value] : *entries) {
    const std::string_view digits(key.data(), key.size());
    AddedToken token;
    // Seven digits hold every id below the vocabulary's limit.
    const bool number = !digits.empty() && digits.size() <= 7 &&
                        digits.find_first_not_of("0123456789") == std::string_view::npos;
    const json::Object* entry = value.if_object();
    if (!number || entry == nullptr) {
      return corrupt(reader.field(std::string(kName) + "." + escaped(digits)) +
                     ": expected a token id and an object");
    }
    token.id = static_cast<TokenId>(std::stol(std::string(digits)));
    const json::Reader inner(*entry, where, std::string(kName) + "." + std::string(digits));
    LIQUIDGEMM_ASSIGN_OR_RETURN(token.content, inner.required_string("content"));
    const std::pair<const char*, bool*> flags[] = {{"special", &token.special},
                                                   {"lstrip", &token.lstrip},
                                                   {"rstrip", &token.rstrip},
                                                   {"single_word", &token.single_word},
                                                   {"normalized", &token.normalized}};
    for (const auto& [name, flag] : flags) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(auto set, inner.optional_bool(name));
      *flag = set.value_or(false);
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value value, json::parse(text, where, {16u << 20, 32}));
  const json::Object* object = value.if_object();
  if (object == nullptr) return corrupt(where + ": expected a JSON object");
  const json::Reader reader(*object, where);
  TokenizerConfig config;
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.bos_token, read_token_text(reader, "bos_token", where));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.eos_token, read_token_text(reader, "eos_token", where));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.chat_template, read_chat_template(reader, where));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.added_tokens, read_added_tokens(reader, where));
  return config;
}

Status parse_generation_config(std::string_view text, const std::string& where, ModelConfig& config,
                               GenerationDefaults& defaults) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value value, json::parse(text, where, {1u << 20, 32}));
  const json::Object* object = value.if_object();
  if (object == nullptr) return corrupt(where + ": expected a JSON object");
  const json::Reader reader(*object, where);
  LIQUIDGEMM_ASSIGN_OR_RETURN(defaults.temperature, reader.optional_number("temperature", 0, 1e3));
  LIQUIDGEMM_ASSIGN_OR_RETURN(defaults.top_p, reader.optional_number("top_p", 0, 1));
  LIQUIDGEMM_ASSIGN_OR_RETURN(defaults.min_p, reader.optional_number("min_p", 0, 1));
  LIQUIDGEMM_ASSIGN_OR_RETURN(defaults.repetition_penalty,
                              reader.optional_number("repetition_penalty", 1e-3, 1e3));
  // 0 and -1 both mean "off" in published files.
  LIQUIDGEMM_ASSIGN_OR_RETURN(defaults.top_k,
                              reader.optional_int("top_k", -1, SizeLimits::kVocabulary));
  if (defaults.top_k && *defaults.top_k <= 0) defaults.top_k.reset();
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto eos, parse_token_ids(reader, "eos_token_id", config.vocab_size));
  merge_token_ids(config.eos_tokens, eos);
  return ok_status();
}

Status check_tokenizer_fits(const TokenizerSpec& tokenizer, const ModelConfig& config,
                            const std::string& where) {
  std::int64_t largest = static_cast<std::int64_t>(tokenizer.vocabulary.size()) - 1;
  for (const AddedToken& token : tokenizer.added_tokens) {
    if (token.id < 0) return corrupt(where + ": token id " + std::to_string(token.id));
    largest = std::max(largest, static_cast<std::int64_t>(token.id));
  }
  if (largest < config.vocab_size) return ok_status();
  return corrupt(where + ": the tokenizer has ids up to " + std::to_string(largest) +
                 ", but the model's vocabulary (vocab_size) has " +
                 std::to_string(config.vocab_size) + " entries");
}

}  // namespace liquidgemm
