// The description of the API: whole, free of loose ends, and with this server's numbers in it.

#include "server/openapi.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <regex>
#include <string>

#include "../fresh_seed.h"
#include "base/json.h"
#include "server/embedded.h"

namespace liquidgemm::server {
namespace {

const json::Value* at(const json::Value& document, std::string_view pointer) {
  boost::json::error_code error;
  return document.find_pointer({pointer.data(), pointer.size()}, error);
}

void visit(const json::Value& value, const std::function<void(const json::Object&)>& on_object) {
  if (value.is_array()) {
    for (const json::Value& item : value.get_array()) visit(item, on_object);
  } else if (value.is_object()) {
    on_object(value.get_object());
    for (const auto& member : value.get_object()) visit(member.value(), on_object);
  }
}

OpenApiFacts facts() {
  OpenApiFacts facts{.version = "1.2.3",
                     .models = {"a/model", "other"},
                     .vocabulary = 49153,
                     .max_model_len = 70001,
                     .has_keys = true};
  // Each number differs from all others, so that none can stand in another's place.
  facts.limits.n = 70002;
  facts.limits.prompts = 70003;
  facts.limits.stops = 70004;
  facts.limits.stop_bytes = 70005;
  facts.limits.stop_token_ids = 70006;
  facts.limits.logit_bias = 70007;
  facts.limits.logprobs = 70008;
  facts.limits.messages = 70009;
  facts.limits.content_parts = 70010;
  facts.limits.tools = 70011;
  facts.limits.tool_calls = 70012;
  facts.limits.template_variables = 70013;
  return facts;
}

json::Value document_of(const OpenApiFacts& facts) {
  auto parsed = json::parse(openapi_document(facts), "openapi.json");
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() ? *parsed : json::Value(json::Object());
}

TEST(OpenApi, EveryReferenceLeadsSomewhere) {
  const json::Value document = document_of(facts());
  int references = 0;
  visit(document, [&](const json::Object& object) {
    const json::Value* reference = object.if_contains("$ref");
    if (reference == nullptr) return;
    ++references;
    const std::string target(reference->as_string());
    ASSERT_TRUE(target.starts_with("#/")) << target;
    EXPECT_NE(at(document, target.substr(1)), nullptr) << target;
  });
  EXPECT_GT(references, 100);
}

TEST(OpenApi, EveryRequiredFieldIsDescribed) {
  visit(document_of(facts()), [&](const json::Object& object) {
    const json::Value* required = object.if_contains("required");
    const json::Value* properties = object.if_contains("properties");
    if (required == nullptr || !required->is_array() || properties == nullptr) return;
    for (const json::Value& name : required->get_array()) {
      EXPECT_TRUE(properties->as_object().contains(name.as_string())) << name;
    }
  });
}

TEST(OpenApi, Paths) {
  const json::Value document = document_of(facts());
  const json::Object& paths = document.at("paths").as_object();
  for (const char* path :
       {"/v1/completions", "/v1/chat/completions", "/v1/models", "/v1/models/{model}", "/tokenize",
        "/detokenize", "/health", "/ready", "/version", "/metrics", "/load", "/openapi.json"}) {
    EXPECT_TRUE(paths.contains(path)) << path;
  }
  for (const auto& path : paths) {
    for (const auto& [method, operation] : path.value().as_object()) {
      const json::Object& responses = operation.at("responses").as_object();
      const bool is_public = path.key() == "/health" || path.key() == "/ready";
      EXPECT_EQ(responses.contains("401"), !is_public) << path.key();
      EXPECT_EQ(operation.as_object().contains("security"), is_public) << path.key();
      EXPECT_TRUE(responses.contains("200") && responses.contains("405")) << path.key();
      if (method != "post") continue;
      EXPECT_EQ(responses.contains("504"), path.key().starts_with("/v1/")) << path.key();
      for (const char* status : {"400", "404", "413", "415", "429", "503"}) {
        EXPECT_TRUE(responses.contains(status)) << path.key() << " " << status;
      }
    }
  }
}

TEST(OpenApi, HasThisServersNumbers) {
  const std::string text = openapi_document(facts());
  for (int number = 70002; number <= 70013; ++number) {
    EXPECT_NE(text.find(std::to_string(number)), std::string::npos) << number;
  }
  const json::Value document = document_of(facts());
  const json::Value& schemas = document.at("components").at("schemas");
  EXPECT_EQ(document.at("info").at("version"), "1.2.3");
  EXPECT_EQ(schemas.at("TokenId").at("maximum"), 49152);
  EXPECT_EQ(schemas.at("MaxTokens").at("maximum"), 70000);
  EXPECT_EQ(schemas.at("AnswerTokens").at("maximum"), 70000);
  EXPECT_EQ(schemas.at("ModelName").at("enum"), (json::Array{"a/model", "other", nullptr}));
  EXPECT_EQ(document.at("security"), (json::Array{json::Object{{"key", json::Array()}}}));
  OpenApiFacts open = facts();
  open.has_keys = false;
  EXPECT_FALSE(document_of(open).as_object().contains("security"));
}

TEST(OpenApi, NamesOfTokensGoToTheLastOne) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 60; ++i) {
    std::int64_t most = i;
    if (i >= 12) most = static_cast<std::int64_t>(random() >> (33 + random() % 25));
    const std::regex pattern(pattern_of_numbers(most));
    const auto matches = [&](std::int64_t number) {
      return std::regex_match(std::to_string(number), pattern);
    };
    for (int j = 0; j < 50; ++j) {
      const auto below = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
      EXPECT_TRUE(matches(below)) << below << " of " << most;
      const std::int64_t above =
          most + 1 + static_cast<std::int64_t>(random() >> (random() % 60 + 2));
      EXPECT_FALSE(matches(above)) << above << " of " << most;
      EXPECT_FALSE(std::regex_match("0" + std::to_string(below), pattern)) << below;
    }
    EXPECT_TRUE(matches(0) && matches(most) && !matches(most + 1) && !matches(-1)) << most;
    EXPECT_FALSE(std::regex_match("", pattern) || std::regex_match("1.0", pattern));
  }
}

// The file's own numbers are the defaults: nothing but the facts of a model changes.
TEST(OpenApi, TheFileHasTheDefaults) {
  const auto file = json::parse(kOpenApiJson, "openapi.json");
  ASSERT_TRUE(file.ok()) << file.status().message();
  OpenApiFacts defaults{
      .version = "0", .models = {"model"}, .vocabulary = 2147483648, .max_model_len = 2147483649};
  json::Value document = document_of(defaults);
  boost::json::error_code error;
  *document.find_pointer("/paths/~1v1~1models~1{model}/get/parameters/0/schema", error) =
      *at(*file, "/paths/~1v1~1models~1{model}/get/parameters/0/schema");
  EXPECT_EQ(document, *file);
}

}  // namespace
}  // namespace liquidgemm::server
