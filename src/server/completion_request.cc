// /v1/completions, /tokenize and /detokenize: requests without a conversation.

#include "server/api_request.h"

namespace liquidgemm::server {
namespace {

constexpr std::int64_t kDefaultMaxTokens = 16;  // as OpenAI has it
constexpr std::size_t kMaxModelName = 1024;

void add_prompt(RequestFields& fields, const std::string& name, const json::Array& list,
                const RequestRules& rules, CompletionRequest& request) {
  if (list.empty()) return fields.fail(name, "empty, expected at least one token");
  request.prompts.emplace_back(parse_tokens(fields, name, list, rules));
}

// A text, several, one prompt's token ids, or several prompts' ones.
void parse_prompt(RequestFields& fields, const RequestRules& rules, CompletionRequest& request) {
  constexpr std::string_view kExpected =
      "expected a string, a list of strings, a list of token ids or a list of such lists, found ";
  const json::Value* prompt = fields.value("prompt");
  if (prompt == nullptr) return fields.fail("prompt", "missing");
  if (prompt->is_string()) {
    request.prompts.emplace_back(std::string(prompt->get_string()));
    return;
  }
  if (!prompt->is_array()) {
    return fields.fail("prompt", std::string(kExpected) + std::string(json::kind_name(*prompt)));
  }
  const json::Array& list = prompt->get_array();
  if (list.empty()) return fields.fail("prompt", "empty, expected at least one token");
  if (list[0].is_number()) return add_prompt(fields, "prompt", list, rules, request);
  if (list.size() > rules.limits.prompts) {
    return fields.fail("prompt", std::to_string(list.size()) + " prompts, at most " +
                                     std::to_string(rules.limits.prompts) + " are accepted");
  }
  for (std::size_t i = 0; i < list.size() && fields.ok(); ++i) {
    const std::string at = "prompt[" + std::to_string(i) + "]";
    if (list[i].is_string() && list[0].is_string()) {
      request.prompts.emplace_back(std::string(list[i].get_string()));
    } else if (list[i].is_array() && list[0].is_array()) {
      add_prompt(fields, at, list[i].get_array(), rules, request);
    } else {
      fields.fail(at, std::string(kExpected) + std::string(json::kind_name(list[i])) + " in it");
    }
  }
}

}  // namespace

std::optional<ApiError> parse_completion(const json::Object& object, const RequestRules& rules,
                                         CompletionRequest& request) {
  std::optional<ApiError> error;
  RequestFields fields(object, "", error);
  request.model = fields.string("model", kMaxModelName);
  parse_prompt(fields, rules, request);
  request.echo = fields.boolean("echo").value_or(false);
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  GenerationParams& generation = request.generation;
  parse_generation(fields, rules, request.echo ? 0 : 1, generation);
  if (!generation.max_tokens) generation.max_tokens = kDefaultMaxTokens;
  if (const auto logprobs = fields.integer("logprobs", 0, rules.limits.logprobs)) {
    generation.logprobs = static_cast<std::int32_t>(*logprobs);
  }
  fields.unsupported("suffix", {"\"\""});
  if (fields.ok() &&
      request.prompts.size() * static_cast<std::size_t>(generation.n) > rules.limits.answers) {
    fields.fail("n", std::to_string(request.prompts.size()) + " prompts times " +
                         std::to_string(generation.n) + ", at most " +
                         std::to_string(rules.limits.answers) + " answers are given at once");
  }
  request.unknown = fields.unknown();
  return error;
}

std::optional<ApiError> parse_tokenize(const json::Object& object, const RequestRules& rules,
                                       TokenizeRequest& request) {
  std::optional<ApiError> error;
  RequestFields fields(object, "", error);
  request.model = fields.string("model", kMaxModelName);
  request.return_token_strs = fields.boolean("return_token_strs").value_or(false);
  request.text = fields.string("prompt", rules.limits.body_bytes);
  request.add_special_tokens =
      fields.boolean("add_special_tokens").value_or(request.text.has_value());
  if (request.text) {
    if (fields.value("messages") != nullptr) {
      fields.fail("messages", "not accepted together with prompt");
    }
  } else {
    if (fields.ok() && fields.value("messages") == nullptr) {
      fields.fail("prompt", "missing; expected prompt or messages");
    }
    std::vector<std::string> names;
    parse_tools(fields, rules, request.prompt.tools, names);
    parse_conversation(fields, rules, request.prompt);
  }
  request.unknown = fields.unknown();
  return error;
}

std::optional<ApiError> parse_detokenize(const json::Object& object, const RequestRules& rules,
                                         DetokenizeRequest& request) {
  std::optional<ApiError> error;
  RequestFields fields(object, "", error);
  request.model = fields.string("model", kMaxModelName);
  const json::Value* tokens = fields.value("tokens");
  if (tokens == nullptr) {
    fields.fail("tokens", "missing");
  } else if (!tokens->is_array()) {
    fields.fail("tokens",
                "expected a list of token ids, found " + std::string(json::kind_name(*tokens)));
  } else {
    request.tokens = parse_tokens(fields, "tokens", tokens->get_array(), rules);
  }
  request.unknown = fields.unknown();
  return error;
}

}  // namespace liquidgemm::server
