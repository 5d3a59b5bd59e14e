// /v1/chat/completions end to end over a small random model, and answers that hold tool calls.

#include <gtest/gtest.h>

#include <algorithm>

#include "api_fixture.h"
#include "model/tokenizer/utf8.h"
#include "server/forced_calls.h"

namespace liquidgemm::server {
namespace {

constexpr std::string_view kHello = R"({"messages":[{"role":"user","content":"Hello"}])";

std::string hello(std::string_view rest) { return std::string(kHello) + std::string(rest); }

TEST(ApiChat, IsTheCompletionOfTheRenderedTemplate) {
  Api api;
  const json::Object tokens = api.answer("/tokenize", hello("}"));
  const std::string prompt = json::dump(tokens.at("tokens"));
  EXPECT_EQ(api.answer("/detokenize", "{\"tokens\":" + prompt + "}").at("prompt").as_string(),
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
  const std::string rest = ",\"max_tokens\":12,\"temperature\":1,\"top_p\":1,\"seed\":7}";
  const json::Object chat = api.answer("/v1/chat/completions", hello(rest));
  const json::Object completion = api.answer("/v1/completions", "{\"prompt\":" + prompt + rest);
  EXPECT_EQ(text_at(chat), text_at(completion));
  EXPECT_EQ(chat.at("object").as_string(), "chat.completion");
  EXPECT_TRUE(chat.at("id").as_string().starts_with("chatcmpl-"));
  EXPECT_EQ(chat.at("choices").at(0).at("message").at("role").as_string(), "assistant");
  EXPECT_FALSE(chat.at("choices").at(0).at("message").as_object().contains("tool_calls"));
  EXPECT_EQ(usage_at(chat, "prompt_tokens"), tokens.at("count").to_number<std::int64_t>());
  EXPECT_EQ(json::dump(chat.at("usage")), json::dump(completion.at("usage")));
}

TEST(ApiChat, StreamsARoleThenTheText) {
  Api api;
  const std::string rest = ",\"max_tokens\":12,\"temperature\":1,\"top_p\":1,\"seed\":9,\"n\":2";
  const json::Object whole = api.answer("/v1/chat/completions", hello(rest + "}"));
  const auto reply = api.call("/v1/chat/completions", hello(rest + ",\"stream\":true}"));
  const auto events = reply->events();
  std::string text[2];
  std::string finish[2];
  bool role[2] = {false, false};
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const auto parsed = json::parse(event, "event");
    ASSERT_TRUE(parsed.ok()) << event;
    EXPECT_EQ(parsed->at("object").as_string(), "chat.completion.chunk");
    EXPECT_FALSE(parsed->as_object().contains("usage"));
    const json::Object& choice = parsed->at("choices").at(0).as_object();
    const auto index = static_cast<std::size_t>(choice.at("index").as_int64());
    const json::Object& delta = choice.at("delta").as_object();
    if (delta.contains("role")) {
      EXPECT_FALSE(role[index]);
      role[index] = true;
    }
    EXPECT_TRUE(role[index]);
    if (delta.contains("content")) text[index] += delta.at("content").as_string();
    if (choice.at("finish_reason").is_string())
      finish[index] = choice.at("finish_reason").as_string();
  }
  EXPECT_EQ(events.back(), "[DONE]");
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(text[i], text_at(whole, i));
    EXPECT_EQ(finish[i], finish_at(whole, i));
  }
}

TEST(ApiChat, LogprobsHaveTheirBytes) {
  Api api;
  const json::Object answer =
      api.answer("/v1/chat/completions",
                 hello(",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"logprobs\":true,"
                       "\"top_logprobs\":3}"));
  const json::Array& content = answer.at("choices").at(0).at("logprobs").at("content").as_array();
  ASSERT_EQ(content.size(), 5u);
  std::string bytes;
  for (const json::Value& token : content) {
    ASSERT_EQ(token.at("top_logprobs").as_array().size(), 3u);
    EXPECT_EQ(token.at("logprob"), token.at("top_logprobs").at(0).at("logprob"));
    for (const json::Value& byte : token.at("bytes").as_array()) {
      bytes += static_cast<char>(byte.as_int64());
    }
  }
  // Special tokens have bytes and are not shown.
  if (bytes.find("<|") == std::string::npos) {
    EXPECT_EQ(text_at(answer), repair_utf8(bytes));
  }
}

TEST(ApiChat, TheAnswerTakesWhatFits) {
  Api api;  // 640 tokens
  const json::Object answer =
      api.answer("/v1/chat/completions", hello(",\"ignore_eos\":true,\"temperature\":0}"));
  EXPECT_EQ(usage_at(answer, "total_tokens"), 640);
  EXPECT_EQ(finish_at(answer), "length");
}

TEST(ApiChat, AFinalMessageMayBeContinued) {
  Api api;
  const std::string body = R"({"messages":[{"role":"user","content":"Hello"},
      {"role":"assistant","content":"Good mor"}],"continue_final_message":true)";
  const json::Object tokens = api.answer("/tokenize", body + "}");
  const json::Object text =
      api.answer("/detokenize", "{\"tokens\":" + json::dump(tokens.at("tokens")) + "}");
  EXPECT_EQ(text.at("prompt").as_string(),
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nGood mor");
  EXPECT_EQ(api.call("/tokenize", R"({"messages":[{"role":"user","content":" "}],
      "continue_final_message":true})")
                ->status(),
            400);
}

TEST(ApiChat, AModelWithoutATemplateSaysSo) {
  Api api;
  api.model.chat_template.reset();
  const auto reply = api.call("/v1/chat/completions", hello("}"));
  EXPECT_EQ(reply->status(), 400);
  EXPECT_EQ(reply->object().at("error").at("param").as_string(), "messages");
}

TEST(ApiChat, ATemplateThatRefusesOrRunsAwayIsTheRequestsError) {
  Api api;
  for (const std::string source :
       {"{{ raise_exception('only cats') }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ messages[0].content + 7 }}"}) {
    auto parsed = ChatTemplate::parse(source, "test");
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    api.model.chat_template = std::make_unique<ChatTemplate>(std::move(*parsed));
    const auto reply = api.call("/v1/chat/completions", hello("}"));
    EXPECT_EQ(reply->status(), 400) << reply->body();
    EXPECT_EQ(reply->object().at("error").at("param").as_string(), "messages") << reply->body();
  }
}

// ---- Tool calls: tokens forced by a constraint, so that the model says what the test wants.

class Script : public TokenConstraint {
 public:
  Script(std::vector<TokenId> tokens, TokenId end) : tokens_(std::move(tokens)) {
    tokens_.push_back(end);
  }
  bool allowed(std::span<std::uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0u);
    const auto token = static_cast<std::size_t>(tokens_[at_]);
    mask[token / 32] |= 1u << (token % 32);
    return true;
  }
  bool accept(TokenId token) override {
    if (token != tokens_[at_]) return false;
    if (at_ + 1 < tokens_.size()) ++at_;
    return true;
  }

 private:
  std::vector<TokenId> tokens_;
  std::size_t at_ = 0;
};

std::shared_ptr<RecordingReply> say(Api& api, const std::string& text, ChatRequest request,
                                    const ToolParserFactory& parser) {
  auto reply = std::make_shared<RecordingReply>();
  Request one;
  one.prompt = {5, 6};
  one.max_tokens = 300;
  one.stop_tokens = {2};
  one.constraint = std::make_shared<Script>(api.model.tokenizer->encode(text, false), TokenId{2});
  AnswerOptions options;
  options.id = "chatcmpl-test";
  options.model = "tiny";
  options.prompt_tokens = {2};
  make_chat_answer(*api.model.tokenizer, api.engine_thread, reply, request, options, parser)
      ->start({one});
  EXPECT_TRUE(reply->wait_end());
  return reply;
}

TEST(ApiChat, CallsComeOutOfAnswers) {
  Api api;
  const std::string text =
      "Let me see.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, "
      "\"}\"]}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
  const ToolParserFactory parser = [] { return make_tool_parser(ToolFormat::kHermes, {"f", "g"}); };
  ChatRequest request;
  auto reply = say(api, text, request, parser);
  ASSERT_EQ(reply->status(), 200) << reply->body();
  const json::Object answer = reply->object();
  EXPECT_EQ(finish_at(answer), "tool_calls");
  const json::Object& message = answer.at("choices").at(0).at("message").as_object();
  EXPECT_TRUE(message.at("content").as_string().starts_with("Let me see."));
  ASSERT_EQ(message.at("tool_calls").as_array().size(), 2u);
  const json::Object& call = message.at("tool_calls").at(0).as_object();
  EXPECT_EQ(call.at("type").as_string(), "function");
  EXPECT_TRUE(call.at("id").as_string().starts_with("call_"));
  EXPECT_EQ(call.at("function").at("name").as_string(), "f");
  EXPECT_EQ(call.at("function").at("arguments").as_string(), R"({"x": [1, "}"]})");

  request.generation.stream = true;
  reply = say(api, text, request, parser);
  std::string names;
  std::string arguments[2];
  std::string finish;
  for (const std::string& event : reply->events()) {
    if (event == "[DONE]") continue;
    const auto parsed = json::parse(event, "event");
    ASSERT_TRUE(parsed.ok()) << event;
    const json::Object& choice = parsed->at("choices").at(0).as_object();
    if (choice.at("finish_reason").is_string()) finish = choice.at("finish_reason").as_string();
    const json::Value* calls = choice.at("delta").as_object().if_contains("tool_calls");
    if (calls == nullptr) continue;
    const json::Object& delta = calls->at(0).as_object();
    const json::Object& function = delta.at("function").as_object();
    if (function.contains("name")) {
      EXPECT_TRUE(delta.contains("id"));
      names += function.at("name").as_string();
    }
    arguments[delta.at("index").as_int64()] += function.at("arguments").as_string();
  }
  EXPECT_EQ(names, "fg");
  EXPECT_EQ(arguments[0], R"({"x": [1, "}"]})");
  EXPECT_EQ(arguments[1], "{}");
  EXPECT_EQ(finish, "tool_calls");

  request.generation.stream = false;
  request.parallel_tool_calls = false;
  reply = say(api, text, request, parser);
  EXPECT_EQ(reply->object().at("choices").at(0).at("message").at("tool_calls").as_array().size(),
            1u);
}

TEST(ApiChat, ForcedCallsAreTheWholeAnswer) {
  Api api;
  auto reply = say(api, R"({"x": 1})", {}, [] { return make_named_call_parser("f"); });
  json::Object message = reply->object().at("choices").at(0).at("message").as_object();
  EXPECT_TRUE(message.at("content").is_null());
  EXPECT_EQ(message.at("tool_calls").at(0).at("function").at("name").as_string(), "f");
  EXPECT_EQ(message.at("tool_calls").at(0).at("function").at("arguments").as_string(),
            R"({"x": 1})");
  EXPECT_EQ(finish_at(reply->object()), "tool_calls");
  reply = say(api, R"( [{"name":"f","parameters":{"a":"]}"}}, {"name":"g","parameters":{}}])", {},
              make_call_list_parser);
  message = reply->object().at("choices").at(0).at("message").as_object();
  ASSERT_EQ(message.at("tool_calls").as_array().size(), 2u);
  EXPECT_EQ(message.at("tool_calls").at(0).at("function").at("arguments").as_string(),
            R"({"a":"]}"})");
  EXPECT_EQ(message.at("tool_calls").at(1).at("function").at("name").as_string(), "g");
}

TEST(ForcedCalls, ACallThatIsCutOffIsContent) {
  const std::string text = R"([{"name":"f","parameters":{"a":"\"}"}},{"name":"g","par)";
  const auto parser = make_call_list_parser();
  std::vector<ToolEvent> events;
  for (const char c : text) {
    for (ToolEvent& event : parser->push(std::string_view(&c, 1))) events.push_back(event);
  }
  for (ToolEvent& event : parser->finish()) events.push_back(event);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].name, "f");
  EXPECT_EQ(events[1].text, R"({"a":"\"}"})");
  EXPECT_EQ(events[2].kind, ToolEvent::Kind::kContent);
  EXPECT_EQ(events[2].text, R"({"name":"g","par)");
}

}  // namespace
}  // namespace liquidgemm::server
