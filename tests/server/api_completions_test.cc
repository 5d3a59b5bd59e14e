// /v1/completions and what all endpoints share, end to end over a small random model.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include "../fresh_seed.h"
#include "api_fixture.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm::server {
namespace {

// Of 449 ids in the tokenizer, without the three special ones.
std::vector<TokenId> random_prompt(std::mt19937& random, std::int64_t count) {
  std::vector<TokenId> tokens;
  for (std::int64_t i = 0; i < count; ++i)
    tokens.push_back(3 + static_cast<TokenId>(random() % 440));
  return tokens;
}

// The same request on an engine of its own.
GenerateResult lone_answer(std::vector<TokenId> prompt, const GenerateOptions& options) {
  const LoadedModel model = load_test_model("smollm2", {});
  Engine engine(*model.backend, {.model = "test"});
  auto result = generate(model, engine, std::move(prompt), options, {}, false);
  EXPECT_TRUE(result.ok()) << result.status().to_string();
  return result.ok() ? *result : GenerateResult{};
}

TEST(ApiCompletions, GivesTheEnginesTokens) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  Api api;
  for (int round = 0; round < 4; ++round) {
    const auto prompt = random_prompt(random, 1 + static_cast<std::int64_t>(random() % 100));
    GenerateOptions options;
    options.sampling.temperature = round < 2 ? 0.0f : 1.0f;
    options.sampling.seed = random();
    options.max_tokens = 24;
    const GenerateResult expected = lone_answer(prompt, options);
    const std::string body =
        "{\"prompt\":" + list_of(prompt) +
        ",\"max_tokens\":24,\"top_p\":1,\"temperature\":" + (round < 2 ? "0" : "1") +
        ",\"seed\":" + std::to_string(options.sampling.seed);
    const json::Object answer = api.answer("/v1/completions", body + "}");
    EXPECT_EQ(text_at(answer), expected.text);
    EXPECT_EQ(finish_at(answer), expected.finish_reason);
    EXPECT_EQ(answer.at("object").as_string(), "text_completion");
    EXPECT_EQ(answer.at("model").as_string(), "tiny");
    EXPECT_EQ(usage_at(answer, "prompt_tokens"), expected.prompt_tokens);
    EXPECT_EQ(usage_at(answer, "completion_tokens"),
              static_cast<std::int64_t>(expected.tokens.size()));
    EXPECT_EQ(usage_at(answer, "total_tokens"),
              expected.prompt_tokens + static_cast<std::int64_t>(expected.tokens.size()));

    const auto stream =
        api.call("/v1/completions", body +
                                        ",\"stream\":true,\"stream_options\":{\"include_usage\":"
                                        "true}}");
    EXPECT_EQ(stream->content_type(), "text/event-stream");
    const auto events = stream->events();
    ASSERT_GE(events.size(), 3u);
    EXPECT_EQ(events.back(), "[DONE]");
    std::string text;
    std::string finish;
    std::string id;
    for (std::size_t i = 0; i + 1 < events.size(); ++i) {
      const auto parsed = json::parse(events[i], "event");
      ASSERT_TRUE(parsed.ok()) << events[i];
      const json::Object& event = parsed->as_object();
      if (i == 0) id = event.at("id").as_string();
      EXPECT_EQ(event.at("id").as_string(), id);
      if (i + 2 == events.size()) {
        EXPECT_TRUE(event.at("choices").as_array().empty());
        EXPECT_EQ(usage_at(event, "completion_tokens"),
                  static_cast<std::int64_t>(expected.tokens.size()));
        break;
      }
      EXPECT_TRUE(event.at("usage").is_null());
      const std::string piece = text_at(event);
      EXPECT_TRUE(is_valid_utf8(piece));
      text += piece;
      const json::Value& reason = event.at("choices").at(0).at("finish_reason");
      EXPECT_EQ(reason.is_string(), i + 3 == events.size());
      if (reason.is_string()) finish = reason.as_string();
    }
    EXPECT_EQ(text, expected.text);
    EXPECT_EQ(finish, expected.finish_reason);
  }
  EXPECT_TRUE(api.idle());
  EXPECT_EQ(api.ends.all().size(), 8u);
}

TEST(ApiCompletions, StopStringsMaySpanTokens) {
  const std::uint64_t seed = testing::fresh_seed();
  std::mt19937 random(static_cast<unsigned>(seed));
  Api api;
  const auto prompt = random_prompt(random, 20);
  const std::string base = "{\"prompt\":" + list_of(prompt) +
                           ",\"max_tokens\":40,\"temperature\":1,\"top_p\":1,\"ignore_eos\":true,"
                           "\"seed\":" +
                           std::to_string(random());
  const std::string whole = text_at(api.answer("/v1/completions", base + "}"));
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if ((static_cast<unsigned char>(whole[i]) & 0xc0) != 0x80) starts.push_back(i);
  }
  ASSERT_GT(starts.size(), 12u);
  for (int round = 0; round < 8; ++round) {
    const std::size_t first = random() % (starts.size() - 9);
    const std::size_t last = first + 1 + random() % 8;
    const std::string stop = whole.substr(starts[first], starts[last] - starts[first]);
    const std::string cut = whole.substr(0, whole.find(stop));
    const std::string body = base + ",\"stop\":[" + json::dump(json::Value(stop)) + ",\"\"]";
    json::Object answer = api.answer("/v1/completions", body + "}");
    EXPECT_EQ(text_at(answer), cut);
    EXPECT_EQ(finish_at(answer), "stop");
    EXPECT_LE(usage_at(answer, "completion_tokens"), 40);
    EXPECT_GE(usage_at(answer, "completion_tokens"), 1);
    answer = api.answer("/v1/completions", body + ",\"include_stop_str_in_output\":true}");
    EXPECT_EQ(text_at(answer), cut + stop);
    const auto stream = api.call("/v1/completions", body + ",\"stream\":true}");
    std::string text;
    for (const std::string& event : stream->events()) {
      if (event == "[DONE]") continue;
      const auto parsed = json::parse(event, "event");
      ASSERT_TRUE(parsed.ok()) << event;
      text += text_at(parsed->as_object());
    }
    EXPECT_EQ(text, cut);
  }
  EXPECT_TRUE(api.idle());
  EXPECT_EQ(api.engine_thread.metrics().pages_used, 0);
}

TEST(ApiCompletions, SeveralAnswersToSeveralPrompts) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  Api api;
  const std::uint32_t seed = random() % 1000;
  const std::string rest = ",\"max_tokens\":8,\"temperature\":1,\"top_p\":1,\"ignore_eos\":true";
  const auto one = random_prompt(random, 30);
  const auto two = random_prompt(random, 5);
  const json::Object answer =
      api.answer("/v1/completions", "{\"prompt\":[" + list_of(one) + "," + list_of(two) + "]" +
                                        rest + ",\"n\":3,\"seed\":" + std::to_string(seed) + "}");
  ASSERT_EQ(answer.at("choices").as_array().size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    const json::Object alone =
        api.answer("/v1/completions", "{\"prompt\":" + list_of(i < 3 ? one : two) + rest +
                                          ",\"seed\":" + std::to_string(seed + i % 3) + "}");
    EXPECT_EQ(text_at(answer, i), text_at(alone));
    EXPECT_EQ(answer.at("choices").at(i).at("index").as_int64(), static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(usage_at(answer, "prompt_tokens"), 35);
  EXPECT_EQ(usage_at(answer, "completion_tokens"), 48);
}

TEST(ApiCompletions, TextAndTokensAreTheSamePrompt) {
  Api api;
  const std::string rest = ",\"max_tokens\":6,\"temperature\":0}";
  const auto tokens = api.model.tokenizer->encode("Once upon a time", true);
  const json::Object text =
      api.answer("/v1/completions", "{\"prompt\":\"Once upon a time\"" + rest);
  const json::Object ids = api.answer("/v1/completions", "{\"prompt\":" + list_of(tokens) + rest);
  EXPECT_EQ(text_at(text), text_at(ids));
  const json::Object list =
      api.answer("/v1/completions", "{\"prompt\":[\"Once upon a time\"]" + rest);
  EXPECT_EQ(text_at(list), text_at(ids));
  const json::Object echoed =
      api.answer("/v1/completions", "{\"prompt\":\"Once upon a time\",\"echo\":true" + rest);
  EXPECT_EQ(text_at(echoed), "Once upon a time" + text_at(text));
  const json::Object nothing =
      api.answer("/v1/completions", R"({"prompt":"Once upon a time","echo":true,"max_tokens":0})");
  EXPECT_EQ(text_at(nothing), "Once upon a time");
  EXPECT_EQ(usage_at(nothing, "completion_tokens"), 0);
  EXPECT_EQ(finish_at(nothing), "length");
}

TEST(ApiCompletions, EchoedPromptsCarryTheirLogprobs) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  Api api;
  const auto prompt = random_prompt(random, 20);
  const std::string body =
      "{\"prompt\":" + list_of(prompt) + ",\"temperature\":0,\"echo\":true,\"logprobs\":2";
  const LoadedModel model = load_test_model("smollm2", {});
  std::vector<std::int32_t> pages(10);
  std::iota(pages.begin(), pages.end(), 0);
  const std::vector<float> logits = all_logits(*model.backend, prompt, 20, pages);
  const auto vocabulary = static_cast<std::size_t>(model.config.vocab_size);
  const auto check = [&](const json::Object& logprobs, std::size_t tokens) {
    const json::Array& values = logprobs.at("token_logprobs").as_array();
    const json::Array& tops = logprobs.at("top_logprobs").as_array();
    const json::Array& offsets = logprobs.at("text_offset").as_array();
    ASSERT_EQ(logprobs.at("tokens").as_array().size(), tokens);
    ASSERT_EQ(values.size(), tokens);
    ASSERT_EQ(tops.size(), tokens);
    ASSERT_EQ(offsets.size(), tokens);
    EXPECT_TRUE(values[0].is_null());
    EXPECT_TRUE(tops[0].is_null());
    EXPECT_EQ(offsets[0].as_int64(), 0);
    for (std::size_t i = 1; i < tokens; ++i) {
      EXPECT_GE(offsets[i].as_int64(), offsets[i - 1].as_int64());
      const auto logprob = values[i].to_number<double>();
      double best = logprob;
      for (const auto& one : tops[i].as_object()) {
        best = std::max(best, one.value().to_number<double>());
      }
      EXPECT_LE(logprob, 0.0);
      if (i >= prompt.size()) {
        EXPECT_EQ(logprob, best);  // greedy
        continue;
      }
      const float* row = &logits[(i - 1) * vocabulary];
      const double most = *std::max_element(row, row + vocabulary);
      double sum = 0.0;
      for (std::size_t t = 0; t < vocabulary; ++t) sum += std::exp(row[t] - most);
      EXPECT_NEAR(logprob, row[prompt[i]] - most - std::log(sum), 1e-4);
      EXPECT_NEAR(best, -std::log(sum), 1e-4);
    }
  };
  const json::Object answer = api.answer("/v1/completions", body +
                                                                ",\"max_tokens\":3,"
                                                                "\"ignore_eos\":true}");
  const json::Object& logprobs = answer.at("choices").at(0).at("logprobs").as_object();
  check(logprobs, 23);
  const std::string echo = api.model.tokenizer->decode(prompt, false);
  EXPECT_TRUE(text_at(answer).starts_with(echo));
  EXPECT_EQ(logprobs.at("text_offset").at(20).as_int64(),
            static_cast<std::int64_t>(count_characters(echo)));
  EXPECT_EQ(usage_at(answer, "completion_tokens"), 3);
  const json::Object none = api.answer("/v1/completions", body + ",\"max_tokens\":0}");
  check(none.at("choices").at(0).at("logprobs").as_object(), 20);
  EXPECT_EQ(text_at(none), echo);
}

TEST(ApiCompletions, KnownPrefixesAreCounted) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  Api api;
  const std::string prompt = "{\"prompt\":" + list_of(random_prompt(random, 200)) + ",\"n\":2";
  const std::string body = prompt + ",\"max_tokens\":4";
  const auto cached = [](const json::Object& answer) {
    return answer.at("usage").at("prompt_tokens_details").at("cached_tokens").as_int64();
  };
  EXPECT_EQ(cached(api.answer("/v1/completions", body + "}")), 0);
  EXPECT_EQ(cached(api.answer("/v1/completions", body + "}")), 192);
  EXPECT_EQ(cached(api.answer("/v1/completions", body + ",\"cache_salt\":\"mine\"}")), 0);
  // An answer that a stop string ends counts the same. It would be long enough for the engine not
  // to come to its end before the server has seen the string.
  const auto token = api.model.tokenizer->find("a");
  ASSERT_TRUE(token);
  const json::Object stopped = api.answer(
      "/v1/completions",
      prompt + ",\"max_tokens\":400,\"temperature\":0,\"stop\":\"aa\",\"logit_bias\":{\"" +
          std::to_string(*token) + "\":100}}");
  EXPECT_EQ(finish_at(stopped), "stop");
  EXPECT_EQ(text_at(stopped), "");
  EXPECT_EQ(usage_at(stopped, "completion_tokens"), 4);  // two for each answer
  EXPECT_EQ(cached(stopped), 192);
  EXPECT_TRUE(api.idle());
  EXPECT_EQ(api.ends.all().back().finish, FinishReason::kStop);
}

TEST(ApiCompletions, LengthsOfTheModelHold) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  Api api;  // 640 tokens
  const auto refused = [&](const std::string& body, const std::string& param) {
    const auto reply = api.call("/v1/completions", body);
    EXPECT_EQ(reply->status(), 400) << reply->body();
    EXPECT_EQ(reply->object().at("error").at("param").as_string(), param) << reply->body();
  };
  const auto full = list_of(random_prompt(random, 640));
  refused("{\"prompt\":" + full + ",\"max_tokens\":1}", "prompt");
  refused("{\"prompt\":" + list_of(random_prompt(random, 641)) + "}", "prompt");
  refused("{\"prompt\":" + list_of(random_prompt(random, 630)) + ",\"max_tokens\":11}",
          "max_tokens");
  refused("{\"prompt\":[5],\"max_tokens\":2147483648}", "max_tokens");
  refused("{\"prompt\":[5],\"max_tokens\":3,\"min_tokens\":4}", "min_tokens");
  refused("{\"prompt\":\"\"}", "prompt");
  refused("{\"prompt\":[\"a\",\"\"]}", "prompt");
  const json::Object fits =
      api.answer("/v1/completions", "{\"prompt\":" + list_of(random_prompt(random, 630)) +
                                        ",\"max_tokens\":10,\"ignore_eos\":true}");
  EXPECT_EQ(usage_at(fits, "completion_tokens"), 10);
  const json::Object echo =
      api.answer("/v1/completions", "{\"prompt\":" + full + ",\"max_tokens\":0,\"echo\":true}");
  EXPECT_EQ(usage_at(echo, "prompt_tokens"), 640);
  const auto odd =
      api.answer("/v1/completions", R"({"prompt":"a\u0000b <|im_start|>","max_tokens":2})");
  EXPECT_GE(usage_at(odd, "prompt_tokens"), 3);
}

TEST(ApiCompletions, ErrorsHaveTheirStatusAndShape) {
  Api api({}, 0);
  auto reply = api.call("/v1/completions", R"({"prompt":"a","model":"other"})");
  EXPECT_EQ(reply->status(), 404);
  const json::Object error = reply->object().at("error").as_object();
  EXPECT_EQ(error.at("param").as_string(), "model");
  EXPECT_EQ(error.at("code").as_string(), "model_not_found");
  EXPECT_EQ(error.at("type").as_string(), "invalid_request_error");
  EXPECT_EQ(
      api.call("/v1/completions", R"({"prompt":"a","model":"alias","max_tokens":1})")->status(),
      200);
  reply = api.begin("/v1/completions", R"({"prompt":"a"})", "text/plain");
  EXPECT_TRUE(reply->wait_end());
  EXPECT_EQ(reply->status(), 415);
  reply = api.begin("/v1/completions", R"({"prompt":"a","max_tokens":1})",
                    "Application/JSON; charset=utf-8");
  EXPECT_TRUE(reply->wait_end());
  EXPECT_EQ(reply->status(), 200);
  reply = api.call("/v1/completions", "{");
  EXPECT_EQ(reply->status(), 400);
  EXPECT_TRUE(reply->object().at("error").at("param").is_null());
  // More at once than the queue takes: later, perhaps.
  reply = api.call("/v1/completions", R"({"prompt":"a","n":16,"stream":true})");
  EXPECT_EQ(reply->status(), 429);
  ASSERT_EQ(reply->headers().size(), 1u);
  EXPECT_EQ(reply->headers()[0].first, "Retry-After");
  reply = api.call("/v1/completions", R"({"prompt":"a","guided_regex":"(a"})");
  EXPECT_EQ(reply->status(), 400);
  EXPECT_EQ(reply->object().at("error").at("param").as_string(), "guided_regex");
  api.engine_thread.drain();
  reply = api.call("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(reply->status(), 503);
}

TEST(ApiCompletions, AnswersFollowTheirGrammar) {
  Api api;
  if (api.grammar == nullptr) GTEST_SKIP() << "built without structured output";
  for (const std::string n : {"1", "4"}) {
    const json::Object answer =
        api.answer("/v1/completions",
                   R"({"prompt":"a","guided_choice":["yes","no"],"max_tokens":20,"n":)" + n + "}");
    for (std::size_t i = 0; i < answer.at("choices").as_array().size(); ++i) {
      const std::string text = text_at(answer, i);
      EXPECT_TRUE(text == "yes" || text == "no") << text;
      EXPECT_EQ(finish_at(answer, i), "stop");
    }
  }
  const json::Object chat = api.answer("/v1/chat/completions", R"({
      "messages":[{"role":"user","content":"Call"}],"max_tokens":450,"tool_choice":"required",
      "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
        "properties":{"x":{"enum":["a","b"]}},"required":["x"],"additionalProperties":false}}}],
      "parallel_tool_calls":false})");
  const json::Object& message = chat.at("choices").at(0).at("message").as_object();
  ASSERT_TRUE(message.contains("tool_calls")) << json::dump(chat);
  const json::Object& call = message.at("tool_calls").at(0).as_object();
  EXPECT_EQ(call.at("function").at("name").as_string(), "f");
  const std::string arguments(call.at("function").at("arguments").as_string());
  EXPECT_TRUE(arguments == R"({"x":"a"})" || arguments == R"({"x":"b"})") << arguments;
  EXPECT_EQ(finish_at(chat), "tool_calls");
}

TEST(ApiCompletions, AClientThatGoesFreesItsPages) {
  Api api;
  const std::string body =
      R"({"prompt":"a","max_tokens":600,"ignore_eos":true,"n":4,"stream":true})";
  auto reply = api.begin("/v1/completions", body);
  ASSERT_TRUE(reply->wait_chunks(5));
  reply->disconnect();
  EXPECT_TRUE(api.idle());
  EXPECT_FALSE(reply->ended());

  // One that reads too slowly.
  auto slow = std::make_shared<RecordingReply>();
  slow->set_most_chunks(3);
  api.begin("/v1/completions", body, "application/json", slow);
  while (slow->chunks().size() < 3) std::this_thread::yield();
  EXPECT_TRUE(api.idle());

  // One that has gone before its answer began.
  auto gone = std::make_shared<RecordingReply>();
  gone->disconnect();
  api.begin("/v1/completions", R"({"prompt":"a","max_tokens":600,"ignore_eos":true,"n":4})",
            "application/json", gone);
  while (gone.use_count() > 1) std::this_thread::yield();
  EXPECT_TRUE(api.idle());
  EXPECT_EQ(api.engine_thread.metrics().pages_used, 0);
  const auto ends = api.ends.all();
  ASSERT_EQ(ends.size(), 12u);
  for (const Ends::End& end : ends) {
    EXPECT_FALSE(end.finish);
    EXPECT_LT(end.record.answer_tokens, 600);
  }
}

// By a clock that stands still until the test moves it, and slows the engine down: it is asked in
// every step, and no answer may come to its own end meanwhile.
TEST(ApiCompletions, ARequestThatTakesTooLongIsEnded) {
  std::atomic<std::int64_t> seconds = 0;
  OpenAiOptions options;
  options.limits.request_time = std::chrono::seconds(10);
  Api api(options, 1024, "smollm2", [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return TimePoint{} + std::chrono::seconds(seconds.load());
  });
  const auto expect_error = [](const json::Object& body) {
    const json::Object& error = body.at("error").as_object();
    EXPECT_EQ(error.at("code").as_string(), "deadline_exceeded");
    EXPECT_EQ(error.at("type").as_string(), "timeout_error");
    EXPECT_TRUE(error.at("param").is_null());
    const std::string message(error.at("message").as_string());
    EXPECT_NE(message.find("10 s here (--request-timeout)"), std::string::npos) << message;
  };
  const std::string endless = R"("max_tokens":500,"ignore_eos":true)";
  const std::string prompt = R"({"prompt":"a",)" + endless;
  const std::string chat = R"({"messages":[{"role":"user","content":"a"}],)" + endless;

  auto stream = api.begin("/v1/completions", prompt + R"(,"n":2,"stream":true})");
  auto chat_stream = api.begin("/v1/chat/completions", chat + R"(,"n":2,"stream":true})");
  ASSERT_TRUE(stream->wait_chunks(1) && chat_stream->wait_chunks(1));
  seconds = 9;  // they have a second left, the next one ten
  auto whole = api.begin("/v1/completions", prompt + R"(,"n":16})");
  seconds = 10;
  for (const auto& reply : {stream, chat_stream}) {
    ASSERT_TRUE(reply->wait_end());
    const auto events = reply->events();
    ASSERT_GE(events.size(), 3u);
    EXPECT_EQ(events.back(), "[DONE]");
    const auto error = json::parse(events[events.size() - 2], "event");
    ASSERT_TRUE(error.ok());
    expect_error(error->as_object());
  }
  EXPECT_FALSE(whole->ended());
  seconds = 19;
  ASSERT_TRUE(whole->wait_end());
  EXPECT_EQ(whole->status(), 504);
  expect_error(whole->object());
  EXPECT_EQ(whole->headers(), (Headers{{"X-Should-Retry", "false"}}));
  EXPECT_TRUE(api.idle());
  EXPECT_EQ(api.engine_thread.metrics().pages_used, 0);
  const auto ends = api.ends.all();
  ASSERT_EQ(ends.size(), 20u);
  for (const Ends::End& end : ends) EXPECT_EQ(end.finish, FinishReason::kTimeout);
  // And what comes then has its own ten seconds.
  EXPECT_EQ(api.call("/v1/completions", R"({"prompt":"a","max_tokens":2})")->status(), 200);
}

TEST(ApiCompletions, TokenizeAndDetokenizeAreInverse) {
  Api api;
  const json::Object tokens =
      api.answer("/tokenize", R"({"model":"tiny","prompt":"Once upon","return_token_strs":true})");
  const auto expected = api.model.tokenizer->encode("Once upon", true);
  EXPECT_EQ(json::dump(tokens.at("tokens")), list_of(expected));
  EXPECT_EQ(tokens.at("count").to_number<std::size_t>(), expected.size());
  EXPECT_EQ(tokens.at("max_model_len").as_int64(), 640);
  EXPECT_EQ(tokens.at("token_strs").as_array().size(), expected.size());
  const json::Object text =
      api.answer("/detokenize", "{\"tokens\":" + json::dump(tokens.at("tokens")) + "}");
  EXPECT_EQ(text.at("prompt").as_string(), "Once upon");
  for (const std::string body : {R"({})", R"({"tokens":7})", R"({"tokens":[-1]})",
                                 R"({"tokens":[512]})", R"({"tokens":["a"]})"}) {
    EXPECT_EQ(api.call("/detokenize", body)->status(), 400) << body;
  }
  for (const std::string body : {R"({})", R"({"prompt":7})", R"({"prompt":"a","messages":[]})",
                                 R"({"messages":[{"role":"x","content":"a"}]})"}) {
    EXPECT_EQ(api.call("/tokenize", body)->status(), 400) << body;
  }
}

TEST(ApiCompletions, ModelsAreListed) {
  Api api;
  const json::Object list = api.answer("/v1/models", "");
  EXPECT_EQ(list.at("object").as_string(), "list");
  ASSERT_EQ(list.at("data").as_array().size(), 2u);
  EXPECT_EQ(list.at("data").at(0).at("id").as_string(), "tiny");
  EXPECT_EQ(list.at("data").at(0).at("max_model_len").as_int64(), 640);
  EXPECT_EQ(list.at("data").at(0).at("meta").at("n_vocab").as_int64(), api.model.config.vocab_size);
  EXPECT_EQ(api.answer("/v1/models/alias", "").at("id").as_string(), "alias");
}

}  // namespace
}  // namespace liquidgemm::server
