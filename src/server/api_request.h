// The API's requests, read from JSON with every field checked. Parsing touches no model, no
// tokenizer and no engine: a body and the rules decide alone.
//
// One validator, parse_generation(), reads what all endpoints that generate have in common, and
// one, fit_length(), checks lengths once the prompt's tokens are known.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "engine/grammar.h"
#include "engine/request.h"
#include "model/chat/chat_template.h"
#include "server/api_error.h"
#include "server/api_limits.h"
#include "server/request_fields.h"

namespace liquidgemm::server {

// What a request is checked against.
struct RequestRules {
  ApiLimits limits = {};
  std::int64_t vocabulary = 0;   // of the model
  SamplingParams sampling = {};  // for what a request leaves open
  bool structured_output = false;
  bool automatic_tools = false;  // the answer is searched for tool calls
};

// What completions and chats have in common.
struct GenerationParams {
  SamplingParams sampling;
  bool has_seed = false;
  std::int64_t n = 1;
  std::optional<std::int64_t> max_tokens;
  std::string max_tokens_name = "max_tokens";  // the field that it came from, for messages
  std::int64_t min_tokens = 0;
  std::vector<std::string> stops;
  std::vector<TokenId> stop_tokens;
  bool include_stop = false;
  bool ignore_end_tokens = false;
  bool skip_special_tokens = true;
  std::vector<TokenBias> logit_bias;
  std::int32_t logprobs = -1;  // as Request::logprobs
  std::string cache_salt;
  bool stream = false;
  bool include_usage = false;
  std::optional<GrammarSpec> grammar;
  std::string grammar_field;  // where it came from, for messages
};

struct CompletionRequest {
  std::optional<std::string> model;
  GenerationParams generation;
  std::vector<std::variant<std::string, std::vector<TokenId>>> prompts;  // at least one
  bool echo = false;  // with it, max_tokens may be 0
  bool add_special_tokens = true;
  std::vector<std::string> unknown;
};

enum class ToolChoice { kNone, kAuto, kRequired, kNamed };

struct ChatRequest {
  std::optional<std::string> model;
  GenerationParams generation;
  ChatPrompt prompt;
  bool add_special_tokens = false;
  ToolChoice tool_choice = ToolChoice::kNone;
  std::string tool_name;                // kNamed
  std::vector<std::string> tool_names;  // of the functions that may be called
  bool parallel_tool_calls = true;
  std::vector<std::string> unknown;
};

struct TokenizeRequest {
  std::optional<std::string> model;
  std::optional<std::string> text;  // or
  ChatPrompt prompt;
  bool add_special_tokens = true;
  bool return_token_strs = false;
  std::vector<std::string> unknown;
};

struct DetokenizeRequest {
  std::optional<std::string> model;
  std::vector<TokenId> tokens;
  std::vector<std::string> unknown;
};

// A body to the object it must be.
std::optional<ApiError> parse_body(std::string_view body, const ApiLimits& limits,
                                   json::Object& object);

// Each fills `request` or returns what is wrong.
std::optional<ApiError> parse_completion(const json::Object& object, const RequestRules& rules,
                                         CompletionRequest& request);
std::optional<ApiError> parse_chat(const json::Object& object, const RequestRules& rules,
                                   ChatRequest& request);
std::optional<ApiError> parse_tokenize(const json::Object& object, const RequestRules& rules,
                                       TokenizeRequest& request);
std::optional<ApiError> parse_detokenize(const json::Object& object, const RequestRules& rules,
                                         DetokenizeRequest& request);

// `capacity`: the longest sequence that can be served, prompt and answer. Gives the answer's
// tokens; cut to what fits when the request names none.
std::optional<ApiError> fit_length(const GenerationParams& generation, std::int64_t prompt_tokens,
                                   std::int64_t capacity, std::int64_t& max_tokens);

// ---- Parts, each in a file of its own.

// `lowest_max_tokens`: 0 or 1.
void parse_generation(RequestFields& fields, const RequestRules& rules,
                      std::int64_t lowest_max_tokens, GenerationParams& generation);
// response_format, guided_*, structured_outputs; at most one of them.
void parse_structured_output(RequestFields& fields, const RequestRules& rules,
                             GenerationParams& generation);
// messages and what else says how they are rendered.
void parse_conversation(RequestFields& fields, const RequestRules& rules, ChatPrompt& prompt);
// tools, checked and as they came; `names` of their functions.
void parse_tools(RequestFields& fields, const RequestRules& rules, json::Value& tools,
                 std::vector<std::string>& names);
// The schema of an answer that must call: an array of {"name", "parameters"} for kRequired, the
// arguments themselves for kNamed.
void require_call(RequestFields& fields, const RequestRules& rules, ChatRequest& request);
// Token ids of `list`, each in the vocabulary.
std::vector<TokenId> parse_tokens(RequestFields& fields, const std::string& name,
                                  const json::Array& list, const RequestRules& rules);

}  // namespace liquidgemm::server
