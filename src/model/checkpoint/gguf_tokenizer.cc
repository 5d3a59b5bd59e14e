// tokenizer.ggml.*: the tokenizer that a GGUF file carries.
#include <algorithm>

#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/gguf_source.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kMostMerges = 1 << 22;
constexpr std::size_t kMaxTemplate = 1u << 20;

// What "tokenizer.ggml.pre" stands for. add_bos is llama.cpp's default where the file is silent.
struct PreTokenizerName {
  std::string_view name;
  PreTokenizer kind;
  bool nfc;
  bool ignore_merges;
  bool add_bos;
};
constexpr PreTokenizerName kPreTokenizers[] = {
    {"llama-bpe", PreTokenizer::kLlama3, false, true, true},
    {"llama3", PreTokenizer::kLlama3, false, true, true},
    {"llama-v3", PreTokenizer::kLlama3, false, true, true},
    {"smollm", PreTokenizer::kSmolLm, false, false, false},
    {"qwen2", PreTokenizer::kQwen2, true, false, false},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2, true, false, false},
    {"gpt-2", PreTokenizer::kGpt2, false, false, false},
};

// Token types of the format.
enum : std::int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

Result<const PreTokenizerName*> read_pre_tokenizer(const GgufMetadata& metadata) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string model, metadata.required_string("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return unsupported(metadata.field("tokenizer.ggml.model") + ": " + printable(model) +
                       " tokenizers are not supported; expected byte-level BPE (\"gpt2\")");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto pre, metadata.optional_string("tokenizer.ggml.pre"));
  if (!pre) {
    return unsupported(metadata.field("tokenizer.ggml.pre") +
                       ": missing, so how text is cut into words is unknown; convert the model "
                       "again with a current llama.cpp");
  }
  std::string known;
  for (const PreTokenizerName& name : kPreTokenizers) {
    if (*pre == name.name) return &name;
    known += (known.empty() ? "" : ", ") + std::string(name.name);
  }
  return unsupported(metadata.field("tokenizer.ggml.pre") + ": " + printable(*pre) +
                     " is not supported; supported are " + known);
}

Status read_tokens(const GgufMetadata& metadata, std::int64_t vocab_size, TokenizerSpec& spec) {
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  const auto limit = static_cast<std::size_t>(SizeLimits::kVocabulary);
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto tokens, metadata.required_strings(kTokens, limit));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto types, metadata.optional_ints(kTypes, limit));
  if (static_cast<std::int64_t>(tokens.size()) > vocab_size) {
    return corrupt(metadata.field(kTokens) + ": " + std::to_string(tokens.size()) +
                   " tokens, but the embedding has " + std::to_string(vocab_size) + " rows");
  }
  if (!types.empty() && types.size() != tokens.size()) {
    return corrupt(metadata.field(kTypes) + ": " + std::to_string(types.size()) + " types for " +
                   std::to_string(tokens.size()) + " tokens");
  }
  spec.vocabulary.resize(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::int64_t type = types.empty() ? std::int64_t{kNormal} : types[id];
    if (type < kNormal || type > kByte) {
      return corrupt(metadata.field(kTypes) + ": token " + std::to_string(id) + " has type " +
                     std::to_string(type) + ", expected 1 to 6");
    }
    if (type == kControl || type == kUserDefined) {
      // Stored as plain text, not in the byte alphabet. The file does not record the flags for
      // white space around them; all published models of these families have none.
      AddedToken token;
      token.id = static_cast<TokenId>(id);
      token.content = std::string(tokens[id]);
      token.special = type == kControl;
      spec.added_tokens.push_back(std::move(token));
    } else if (type != kUnused) {
      spec.vocabulary[id] = std::string(tokens[id]);
    }
  }
  return ok_status();
}

Status read_merges(const GgufMetadata& metadata, TokenizerSpec& spec) {
  constexpr const char* kMerges = "tokenizer.ggml.merges";
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto merges, metadata.required_strings(kMerges, kMostMerges));
  spec.merges.reserve(merges.size());
  for (std::string_view merge : merges) {
    // The byte alphabet has no space, so the one between the parts is the only one.
    const std::size_t space = merge.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == merge.size()) {
      return corrupt(metadata.field(kMerges) + ": merge " + std::to_string(spec.merges.size()) +
                     " is " + printable(merge) + ", expected two parts with a space between");
    }
    spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return ok_status();
}

// Texts that end an answer in published models. A GGUF file names one end token; llama.cpp knows
// the others by their text, and generation_config.json would list them.
bool ends_answers(const AddedToken& token) {
  constexpr std::string_view kTexts[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>",
                                         "<|end_of_text|>"};
  return token.special &&
         std::find(std::begin(kTexts), std::end(kTexts), token.content) != std::end(kTexts);
}

Status read_special_ids(const GgufMetadata& metadata, const TokenizerSpec& spec,
                        ModelConfig& config) {
  // Ids without a text would end up as empty strings in chat templates.
  const auto last = std::min(config.vocab_size, static_cast<std::int64_t>(spec.vocabulary.size()));
  const auto read = [&](const char* name) {
    return metadata.optional_int(std::string("tokenizer.ggml.") + name, 0, last - 1);
  };
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.bos_token, read("bos_token_id"));
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto id, read(name));
    if (id) merge_token_ids(config.eos_tokens, {*id});
  }
  for (const AddedToken& token : spec.added_tokens) {
    if (ends_answers(token)) merge_token_ids(config.eos_tokens, {token.id});
  }
  return ok_status();
}

std::string token_text(const TokenizerSpec& spec, std::int64_t id) {
  for (const AddedToken& token : spec.added_tokens) {
    if (token.id == id) return token.content;
  }
  return spec.vocabulary[static_cast<std::size_t>(id)];
}

// Tokens around every text: "add_bos_token" and "add_eos_token".
Status read_template_tokens(const GgufMetadata& metadata, const ModelConfig& config,
                            bool default_bos, TokenizerSpec& spec) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto bos, metadata.optional_bool("tokenizer.ggml.add_bos_token"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto eos, metadata.optional_bool("tokenizer.ggml.add_eos_token"));
  if (bos.value_or(default_bos && config.bos_token.has_value())) {
    if (!config.bos_token) {
      return corrupt(metadata.field("tokenizer.ggml.add_bos_token") + ": true without a bos token");
    }
    spec.prefix_tokens.push_back(static_cast<TokenId>(*config.bos_token));
  }
  if (eos.value_or(false)) {
    if (!metadata.has("tokenizer.ggml.eos_token_id")) {
      return corrupt(metadata.field("tokenizer.ggml.add_eos_token") +
                     ": true without an eos token");
    }
    spec.suffix_tokens.push_back(static_cast<TokenId>(config.eos_tokens.front()));
  }
  return ok_status();
}

}  // namespace

Result<GgufTokenizer> tokenizer_from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  GgufTokenizer tokenizer;
  TokenizerSpec& spec = tokenizer.spec;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const PreTokenizerName* pre, read_pre_tokenizer(metadata));
  spec.pre_tokenizer = pre->kind;
  spec.normalize_nfc = pre->nfc;
  spec.ignore_merges = pre->ignore_merges;
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto prefix_space,
                              metadata.optional_bool("tokenizer.ggml.add_space_prefix"));
  spec.add_prefix_space = prefix_space.value_or(false);
  LIQUIDGEMM_RETURN_IF_ERROR(read_tokens(metadata, config.vocab_size, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_merges(metadata, spec));
  LIQUIDGEMM_RETURN_IF_ERROR(read_special_ids(metadata, spec, config));
  LIQUIDGEMM_RETURN_IF_ERROR(read_template_tokens(metadata, config, pre->add_bos, spec));
  if (config.bos_token) tokenizer.bos_token = token_text(spec, *config.bos_token);
  if (metadata.has("tokenizer.ggml.eos_token_id")) {
    tokenizer.eos_token = token_text(spec, config.eos_tokens.front());
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto chat, metadata.optional_string("tokenizer.chat_template"));
  if (chat && chat->size() > kMaxTemplate) {
    return resource_exhausted(metadata.field("tokenizer.chat_template") + ": " +
                              std::to_string(chat->size()) + " bytes, at most 1 MiB is accepted");
  }
  if (chat) tokenizer.chat_template = std::move(*chat);
  return tokenizer;
}

}  // namespace liquidgemm
