// Any bytes as the body of every API request. What is accepted must be within its limits.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/api_request.h"

namespace {

using namespace liquidgemm;
using namespace liquidgemm::server;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_generation(const GenerationParams& generation, const RequestRules& rules) {
  require(check_sampling(generation.sampling).ok());
  require(generation.n >= 1 && generation.n <= rules.limits.n);
  require(generation.stops.size() <= rules.limits.stops);
  require(generation.logit_bias.size() <= rules.limits.logit_bias);
  require(generation.logprobs >= -1 && generation.logprobs <= rules.limits.logprobs);
  for (const TokenBias& bias : generation.logit_bias) {
    require(bias.token >= 0 && bias.token < rules.vocabulary);
    require(bias.bias >= -100.0f && bias.bias <= 100.0f);
  }
  std::int64_t max_tokens = -1;
  if (!fit_length(generation, 10, 1000, max_tokens)) {
    require(max_tokens >= generation.min_tokens && max_tokens <= 990);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const RequestRules kRules = [] {
    RequestRules rules;
    rules.vocabulary = 1000;
    rules.structured_output = true;
    rules.automatic_tools = true;
    return rules;
  }();
  json::Object object;
  if (parse_body(std::string_view(reinterpret_cast<const char*>(data), size), kRules.limits,
                 object)) {
    return 0;
  }
  CompletionRequest completion;
  if (!parse_completion(object, kRules, completion)) {
    require(!completion.prompts.empty());
    check_generation(completion.generation, kRules);
  }
  ChatRequest chat;
  if (!parse_chat(object, kRules, chat)) {
    require(!chat.prompt.messages.empty());
    require(chat.prompt.tools.is_null() || chat.prompt.tools.is_array());
    check_generation(chat.generation, kRules);
  }
  TokenizeRequest tokenize;
  (void)parse_tokenize(object, kRules, tokenize);
  DetokenizeRequest detokenize;
  if (!parse_detokenize(object, kRules, detokenize)) {
    for (const TokenId token : detokenize.tokens) require(token >= 0 && token < 1000);
  }
  return 0;
}
