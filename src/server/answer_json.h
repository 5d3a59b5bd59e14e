// Pieces of answers as the OpenAI API writes them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "engine/request.h"

namespace liquidgemm::server {

// One token of a prompt or an answer, where log-probabilities were asked for.
struct TokenInfo {
  TokenId token = 0;
  std::optional<PositionLogprobs> logprobs;  // nothing for a prompt's first token
  std::size_t offset = 0;                    // in the text, in characters
};

std::string json_string(std::string_view text);  // a JSON string; `text` is UTF-8
std::size_t count_characters(std::string_view text);
// The token's text by itself, bytes that are no whole character as U+FFFD.
std::string token_text(const Tokenizer& tokenizer, TokenId token);
// `prefix` and 24 random hexadecimal digits.
std::string random_id(std::string_view prefix);

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, as completions have them.
json::Object completion_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens);
// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}, as chats have them.
json::Object chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens);

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;
};
json::Object usage_object(const Usage& usage);

}  // namespace liquidgemm::server
