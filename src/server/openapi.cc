#include "server/openapi.h"

#include <fmt/format.h>

#include <cassert>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "server/embedded.h"

namespace liquidgemm::server {
namespace {

json::Array list_of(const std::vector<std::string>& names) {
  return json::Array(names.begin(), names.end());
}

// Puts a value in the place of the one that is there. A test sees that each of them is there.
void replace(json::Value& document, std::string_view pointer, json::Value value) {
  boost::json::error_code error;
  json::Value* found = document.find_pointer({pointer.data(), pointer.size()}, error);
  assert(found != nullptr && "the pointer leads nowhere in openapi.json");
  if (found != nullptr) *found = std::move(value);
}

}  // namespace

std::string pattern_of_numbers(std::int64_t most) {
  const std::string digits = std::to_string(most);
  std::string choices = "0";
  // Fewer digits, then as many: the same beginning, a smaller digit, any others.
  if (digits.size() > 1) choices += fmt::format("|[1-9][0-9]{{0,{}}}", digits.size() - 2);
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const char least = i == 0 ? '1' : '0';
    if (digits[i] <= least) continue;
    choices +=
        fmt::format("|{}[{}-{}]", digits.substr(0, i), least, static_cast<char>(digits[i] - 1));
    const std::size_t others = digits.size() - i - 1;
    if (others > 0) choices += fmt::format("[0-9]{{{}}}", others);
  }
  if (most > 0) choices += "|" + digits;
  return "^(" + choices + ")$";
}

std::string openapi_document(const OpenApiFacts& facts) {
  auto parsed = json::parse(kOpenApiJson, "openapi.json");
  assert(parsed.ok());
  if (!parsed.ok()) return std::string(kOpenApiJson);
  json::Value& document = *parsed;
  const auto schema = [&](std::string_view pointer, json::Value value) {
    replace(document, "/components/schemas/" + std::string(pointer), std::move(value));
  };
  const ApiLimits& limits = facts.limits;
  // The shortest prompt has one token.
  const std::int64_t most_tokens = facts.max_model_len - 1;

  replace(document, "/info/version", json::Value(facts.version));
  replace(document, "/paths/~1v1~1models~1{model}/get/parameters/0/schema",
          json::Object{{"enum", list_of(facts.models)}});
  schema("ModelName/enum", [&] {
    json::Array names = list_of(facts.models);
    names.emplace_back(nullptr);
    return names;
  }());
  schema("TokenId/maximum", facts.vocabulary - 1);
  schema("LogitBias/propertyNames/pattern", json::Value(pattern_of_numbers(facts.vocabulary - 1)));
  schema("MaxTokens/maximum", most_tokens);
  schema("AnswerTokens/maximum", most_tokens);

  for (const std::string_view request : {"CompletionRequest", "ChatRequest"}) {
    const std::string properties = std::string(request) + "/properties/";
    schema(properties + "n/maximum", limits.n);
    schema(properties + "stop_token_ids/maxItems", limits.stop_token_ids);
  }
  schema("CompletionRequest/properties/prompt/anyOf/1/maxItems", limits.prompts);
  schema("CompletionRequest/properties/prompt/anyOf/3/maxItems", limits.prompts);
  schema("CompletionRequest/properties/logprobs/maximum", limits.logprobs);
  schema("ChatRequest/properties/top_logprobs/maximum", limits.logprobs);
  schema("StopStrings/anyOf/1/maxLength", limits.stop_bytes);
  schema("StopStrings/anyOf/2/maxItems", limits.stops);
  schema("StopStrings/anyOf/2/items/maxLength", limits.stop_bytes);
  schema("LogitBias/maxProperties", limits.logit_bias);
  schema("Messages/maxItems", limits.messages);
  schema("TextParts/maxItems", limits.content_parts);
  schema("Tools/maxItems", limits.tools);
  schema("CallsInMessage/maxItems", limits.tool_calls);
  schema("SomeCallsInMessage/maxItems", limits.tool_calls);
  schema("TemplateVariables/maxProperties", limits.template_variables);
  if (facts.has_keys) {
    document.as_object()["security"] = json::Array{json::Object{{"key", json::Array()}}};
  }
  return json::dump(document);
}

Route openapi_route(const OpenApiFacts& facts) {
  return {
      "GET", "/openapi.json",
      [document = openapi_document(facts)](const HttpRequest&, std::shared_ptr<HttpReply> reply) {
        reply->send(200, "application/json", document);
      }};
}

}  // namespace liquidgemm::server
