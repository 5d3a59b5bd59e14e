// Byte-level BPE, equal to Hugging Face `tokenizers` for the families this project runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm {

using TokenId = std::int32_t;

// The known ways to cut text into words before merging. Each is one linear scanner; a
// tokenizer.json with any other pattern is an error that shows the pattern.
enum class PreTokenizer {
  kGpt2,    // ByteLevel's own pattern
  kSmolLm,  // Digits(individual_digits) and then kGpt2
  kLlama3,  // the Split pattern of Llama 3: digits in threes, case-insensitive contractions
  kQwen2,   // the Split pattern of Qwen2, Qwen2.5 and Qwen3: digits one by one
};

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false;
  bool rstrip = false;
  bool single_word = false;
  bool normalized = false;
};

// Everything that a tokenizer.json or a GGUF header says about a tokenizer.
struct TokenizerSpec {
  // By id. The text in GPT-2's byte alphabet, as both file formats store it; empty = no such id.
  std::vector<std::string> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, same alphabet
  std::vector<AddedToken> added_tokens;
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool add_prefix_space = false;
  bool normalize_nfc = false;  // Qwen
  bool ignore_merges = false;  // Llama 3: a word that is in the vocabulary is one token
  // Ids put before the text when special tokens are asked for (TemplateProcessing / add_bos_token).
  std::vector<TokenId> prefix_tokens;
  std::vector<TokenId> suffix_tokens;
};

// `where` names the file in messages. Checks that ids are unique and below the vocabulary limit,
// that every merge's parts and result exist, that texts are valid.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, const std::string& where);
// A tokenizer.json that Hugging Face `tokenizers` and parse_tokenizer_json both read.
std::string tokenizer_to_json(const TokenizerSpec& spec);

class Tokenizer {
 public:
  static Result<Tokenizer> build(TokenizerSpec spec, const std::string& where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Text (below 4 GiB) to ids. Any thread may call it. Added tokens in the text are recognised (as
  // Hugging Face does); with add_special_tokens the prefix and suffix tokens are added. Invalid
  // UTF-8 is replaced by U+FFFD first. Linear time in the text's length (times log).
  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const;

  // The bytes of one token; empty for an id that does not exist. An added token's are its text
  // (unless all of it could be read in the byte alphabet: then Hugging Face does, and so do we).
  std::string_view token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  // The added token with this text, or the ordinary token with these bytes (" the", not "Ġthe").
  std::optional<TokenId> find(std::string_view content) const;

  // Ids to text. Bytes that are not valid UTF-8 become U+FFFD, as Hugging Face does.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // One more than the largest id.
  std::int64_t vocabulary_size() const;
  const TokenizerSpec& spec() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns a stream of ids into a stream of whole characters: bytes of a character that is not
// complete yet are held back. The concatenation of all pushes and the flush equals
// Tokenizer::decode of all ids.
class StreamingDetokenizer {
 public:
  StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  std::string push(TokenId id);
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;
};

}  // namespace liquidgemm
