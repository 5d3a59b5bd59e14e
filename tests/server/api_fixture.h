// A small random model behind the API, with its engine on a thread.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../engine/model_fixture.h"
#include "engine/engine_thread.h"
#include "recording_reply.h"
#include "server/openai_api.h"

namespace liquidgemm::server {

// How requests ended, as the engine's observer is told.
class Ends final : public EngineObserver {
 public:
  struct End {
    RequestRecord record;
    std::optional<FinishReason> finish;
  };
  void next_token(std::chrono::nanoseconds) override {}
  void ended(const RequestRecord& record, std::optional<FinishReason> finish) override {
    const std::lock_guard lock(mutex_);
    ends_.push_back({record, finish});
  }
  std::vector<End> all() const {
    const std::lock_guard lock(mutex_);
    return ends_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<End> ends_;
};

class Api {
 public:
  explicit Api(OpenAiOptions options = {}, std::int64_t max_waiting = 1024,
               const std::string& model_name = "smollm2", std::function<TimePoint()> clock = {})
      : model(load_test_model(model_name, {})),
        engine(*model.backend, {.model = "test", .clock = std::move(clock)}),
        engine_thread(engine, {.max_waiting = max_waiting, .observer = &ends}) {
    if (options.served_names.empty()) options.served_names = {"tiny", "alias"};
    // Null where the build has no structured output.
    auto compiler = GrammarCompiler::create(*model.tokenizer, {2});
    if (compiler.ok()) grammar = std::move(*compiler);
    api = std::make_unique<OpenAiApi>(model, engine_thread, grammar.get(), std::move(options));
    routes_ = api->routes();
  }

  // Sends a body and returns at once.
  std::shared_ptr<RecordingReply> begin(const std::string& path, const std::string& body,
                                        const std::string& type = "application/json") {
    auto reply = std::make_shared<RecordingReply>();
    begin(path, body, type, reply);
    return reply;
  }
  void begin(const std::string& path, const std::string& body, const std::string& type,
             const std::shared_ptr<RecordingReply>& reply) {
    for (const Route& route : routes_) {
      if (route.path != path) continue;
      HttpRequest request;
      request.method = route.method;
      request.path = path;
      request.body = body;
      request.content_type = type;
      route.handler(std::move(request), reply);
      return;
    }
    ADD_FAILURE() << "no route " << path;
  }
  std::shared_ptr<RecordingReply> call(const std::string& path, const std::string& body) {
    auto reply = begin(path, body);
    EXPECT_TRUE(reply->wait_end()) << body;
    return reply;
  }
  // A good call's answer.
  json::Object answer(const std::string& path, const std::string& body) {
    const auto reply = call(path, body);
    EXPECT_EQ(reply->status(), 200) << reply->body();
    return reply->object();
  }
  // Waits until no request runs or waits.
  bool idle() { return engine_thread.wait_idle(std::chrono::seconds(60)); }

  LoadedModel model;
  std::unique_ptr<GrammarCompiler> grammar;
  Ends ends;
  Engine engine;
  EngineThread engine_thread;
  std::unique_ptr<OpenAiApi> api;

 private:
  std::vector<Route> routes_;
};

inline std::string list_of(const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId token : tokens) text += (text.empty() ? "[" : ",") + std::to_string(token);
  return text + "]";
}

inline std::string text_at(const json::Object& answer, std::size_t choice = 0) {
  const json::Object& one = answer.at("choices").as_array().at(choice).as_object();
  const json::Value* message = one.if_contains("message");
  const json::Value& text = message != nullptr ? message->at("content") : one.at("text");
  return std::string(text.as_string());
}

inline std::string finish_at(const json::Object& answer, std::size_t choice = 0) {
  return std::string(answer.at("choices").as_array().at(choice).at("finish_reason").as_string());
}

inline std::int64_t usage_at(const json::Object& answer, std::string_view name) {
  return answer.at("usage").as_object().at(name).as_int64();
}

}  // namespace liquidgemm::server
