#include "server/answer_json.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <random>

namespace liquidgemm::server {
namespace {

// JSON has no infinity; a token that cannot come reads as one that hardly ever does.
constexpr double kLeastLogprob = -9999.0;

double written(float logprob) {
  return std::isfinite(logprob) ? std::max<double>(logprob, kLeastLogprob) : kLeastLogprob;
}

json::Object chat_token(const Tokenizer& tokenizer, const TokenLogprob& token) {
  json::Array bytes;
  for (const char byte : tokenizer.token_bytes(token.token)) {
    bytes.push_back(static_cast<std::int64_t>(static_cast<unsigned char>(byte)));
  }
  return {{"token", token_text(tokenizer, token.token)},
          {"logprob", written(token.logprob)},
          {"bytes", std::move(bytes)}};
}

}  // namespace

std::string json_string(std::string_view text) {
  return boost::json::serialize(boost::json::string_view(text.data(), text.size()));
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
  }));
}

std::string token_text(const Tokenizer& tokenizer, TokenId token) {
  return tokenizer.decode({&token, 1}, /*skip_special_tokens=*/false);
}

std::string random_id(std::string_view prefix) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::random_device random;
  std::string id(prefix);
  for (int word = 0; word < 3; ++word) {
    for (std::uint32_t bits = random(), i = 0; i < 8; ++i, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

json::Object completion_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens) {
  json::Array texts;
  json::Array logprobs;
  json::Array tops;
  json::Array offsets;
  for (const TokenInfo& info : tokens) {
    const std::string text = token_text(tokenizer, info.token);
    texts.emplace_back(text);
    offsets.emplace_back(static_cast<std::int64_t>(info.offset));
    if (!info.logprobs) {
      logprobs.emplace_back(nullptr);
      tops.emplace_back(nullptr);
      continue;
    }
    logprobs.emplace_back(written(info.logprobs->chosen.logprob));
    // Different tokens may read alike; the likeliest, which comes first, stays.
    json::Object top;
    for (const TokenLogprob& one : info.logprobs->top) {
      top.emplace(token_text(tokenizer, one.token), written(one.logprob));
    }
    top.emplace(text, written(info.logprobs->chosen.logprob));
    tops.emplace_back(std::move(top));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

json::Object chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens) {
  json::Array content;
  for (const TokenInfo& info : tokens) {
    if (!info.logprobs) continue;
    json::Object token = chat_token(tokenizer, info.logprobs->chosen);
    json::Array top;
    for (const TokenLogprob& one : info.logprobs->top) {
      top.push_back(chat_token(tokenizer, one));
    }
    token["top_logprobs"] = std::move(top);
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json::Object usage_object(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", json::Object{{"cached_tokens", usage.cached_tokens}}}};
}

}  // namespace liquidgemm::server
