#include "engine/engine.h"

#include <cmath>
#include <limits>
#include <map>

#include "engine/model_fixture.h"
#include "engine/perplexity.h"
#include "engine/text_generator.h"

namespace liquidgemm {
namespace {

Request make_request(std::vector<TokenId> prompt, std::int64_t max_tokens, float temperature = 0.0f,
                     std::uint64_t seed = 0) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = seed;
  return request;
}

struct Answer {
  std::vector<TokenId> tokens;
  FinishReason finish = FinishReason::kNone;
};

// Runs until idle.
std::map<RequestId, Answer> drain(Engine& engine) {
  std::map<RequestId, Answer> answers;
  for (int step = 0; !engine.idle(); ++step) {
    auto updates = engine.step();
    EXPECT_TRUE(updates.ok()) << updates.status().to_string();
    if (!updates.ok() || step > 5000) {
      ADD_FAILURE() << "the engine does not come to an end";
      break;
    }
    for (const Update& update : *updates) {
      Answer& answer = answers[update.request];
      EXPECT_EQ(answer.finish, FinishReason::kNone) << "an update after the end";
      if (update.token >= 0) answer.tokens.push_back(update.token);
      answer.finish = update.finish;
    }
  }
  return answers;
}

TEST(Engine, AnswersDoNotDependOnCompany) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  TestModelOptions options;
  options.threads = 2;
  options.max_rows = 48;
  options.max_logits_rows = 8;
  LoadedModel model = load_test_model("llama3", options);

  std::vector<Request> requests;
  for (int i = 0; i < 14; ++i) {
    Request request =
        make_request(random_tokens(random, 1 + random() % 120, model.config.vocab_size),
                     1 + random() % 30, i % 2 == 0 ? 0.0f : 1.3f, random());
    request.sampling.top_p = i % 3 == 0 ? 0.9f : 1.0f;
    request.sampling.repetition_penalty = i % 4 == 0 ? 1.2f : 1.0f;
    request.sampling.frequency_penalty = i % 5 == 0 ? 0.3f : 0.0f;
    requests.push_back(request);
  }
  std::vector<Answer> alone;
  for (const Request& request : requests) {
    Engine engine(*model.backend);
    const auto id = engine.submit(request);
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    alone.push_back(drain(engine)[*id]);
    EXPECT_EQ(alone.back().finish, FinishReason::kLength);
    EXPECT_EQ(static_cast<std::int64_t>(alone.back().tokens.size()), request.max_tokens);
  }
  Engine engine(*model.backend, {.prompt_chunk = 13});
  std::vector<RequestId> ids;
  for (const Request& request : requests) {
    const auto id = engine.submit(request);
    ASSERT_TRUE(id.ok());
    ids.push_back(*id);
  }
  auto together = drain(engine);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(together[ids[i]].tokens, alone[i].tokens) << "request " << i;
  }
  EXPECT_EQ(engine.metrics().pages_used, 0);
}

TEST(Engine, ScarcePagesMakeRequestsWaitAndCancelFreesThem) {
  std::mt19937 random(std::random_device{}());
  TestModelOptions options;
  options.pages = 4;
  LoadedModel model = load_test_model("llama3", options);
  Engine engine(*model.backend);
  std::vector<RequestId> ids;
  for (int i = 0; i < 5; ++i) {
    // 100 + 20 tokens: two pages each, so two run and three wait.
    const auto id = engine.submit(make_request(random_tokens(random, 100, 512), 20));
    ASSERT_TRUE(id.ok());
    ids.push_back(*id);
  }
  ASSERT_TRUE(engine.step().ok());
  EXPECT_EQ(engine.metrics().running, 2);
  EXPECT_EQ(engine.metrics().waiting, 3);
  EXPECT_EQ(engine.metrics().pages_used, 4);
  engine.cancel(ids[0]);
  engine.cancel(ids[4]);
  engine.cancel(12345);
  EXPECT_EQ(engine.metrics().pages_used, 2);
  auto answers = drain(engine);
  EXPECT_EQ(answers.count(ids[4]), 0u);
  EXPECT_EQ(answers[ids[1]].tokens.size(), 19u);  // one came in the step above
  for (const std::size_t i : {2u, 3u}) EXPECT_EQ(answers[ids[i]].tokens.size(), 20u);
  EXPECT_EQ(engine.metrics().pages_used, 0);
}

TEST(Engine, StopTokensAndTheLongestSequenceEndAnAnswer) {
  std::mt19937 random(3);
  TestModelOptions options;
  options.max_position = 40;
  LoadedModel model = load_test_model("llama3", options);
  Engine engine(*model.backend);
  const auto prompt = random_tokens(random, 30, 512);
  auto id = engine.submit(make_request(prompt, 1000));
  ASSERT_TRUE(id.ok());
  const Answer whole = drain(engine)[*id];
  // 40 positions hold the prompt and ten tokens; the eleventh needs no position of its own.
  EXPECT_EQ(whole.tokens.size(), 11u);
  EXPECT_EQ(whole.finish, FinishReason::kLength);

  Request request = make_request(prompt, 1000);
  request.stop_tokens = {whole.tokens[4]};
  id = engine.submit(request);
  ASSERT_TRUE(id.ok());
  const Answer stopped = drain(engine)[*id];
  const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[4]);
  EXPECT_EQ(stopped.tokens, std::vector<TokenId>(whole.tokens.begin(), first));
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
}

TEST(Engine, RefusesWhatCannotRun) {
  LoadedModel model = load_test_model("llama3", {});
  Engine engine(*model.backend);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refuse = [&](Request request, const std::string& field) {
    const auto id = engine.submit(std::move(request));
    ASSERT_FALSE(id.ok()) << field;
    EXPECT_NE(id.status().message().find(field), std::string::npos) << id.status().message();
  };
  refuse(make_request({}, 1), "prompt");
  refuse(make_request({1, 512}, 1), "token 512");
  refuse(make_request({-1}, 1), "token -1");
  refuse(make_request(std::vector<TokenId>(641, 1), 1), "prompt");
  refuse(make_request({1}, 0), "max_tokens");
  refuse(make_request({1}, 1, nan), "temperature");
  refuse(make_request({1}, 1, -1.0f), "temperature");
  for (const float bad : {nan, 0.0f, 1.5f, -0.1f}) {
    Request request = make_request({1}, 1);
    request.sampling.top_p = bad;
    refuse(request, "top_p");
  }
  EXPECT_TRUE(engine.idle());
  // And the engine still works.
  ASSERT_TRUE(engine.submit(make_request({1, 2, 3}, 3)).ok());
  EXPECT_EQ(drain(engine).begin()->second.tokens.size(), 3u);
}

TEST(Backend, RefusesAStepThatBreaksItsLimits) {
  LoadedModel model = load_test_model("llama3", {});
  const std::vector<std::int32_t> pages{0, 1};
  const std::vector<TokenId> tokens{1, 2, 3};
  SequenceRows sequence{.first_row = 0, .rows = 3, .context = 0, .pages = pages};
  const auto step = [&](std::span<const TokenId> ids, SequenceRows rows,
                        std::vector<std::int32_t> logits) {
    return model.backend->step(
        {.tokens = ids, .sequences = {&rows, 1}, .logits_rows = logits, .samples = {}});
  };
  EXPECT_TRUE(step(tokens, sequence, {2}).ok());
  EXPECT_FALSE(step({}, sequence, {}).ok());
  EXPECT_FALSE(step(tokens, sequence, {3}).ok());
  EXPECT_FALSE(step(tokens, sequence, {1, 1}).ok());
  EXPECT_FALSE(step(std::vector<TokenId>{1, 2, 99999}, sequence, {2}).ok());
  for (const auto& change : std::vector<std::pair<std::int32_t SequenceRows::*, std::int32_t>>{
           {&SequenceRows::rows, 2},
           {&SequenceRows::rows, 4},
           {&SequenceRows::rows, -1},
           {&SequenceRows::context, -1},
           {&SequenceRows::context, 126},
           {&SequenceRows::context, 1 << 30},
           {&SequenceRows::first_row, 1}}) {
    SequenceRows broken = sequence;
    broken.*change.first = change.second;
    EXPECT_FALSE(step(tokens, broken, {}).ok()) << change.second;
  }
  const std::vector<std::int32_t> outside{100};
  sequence.pages = outside;
  EXPECT_FALSE(step(tokens, sequence, {}).ok());
}

TEST(StopFilter, FindsStopsThatSpanPiecesAndHoldsBackNoMore) {
  StopFilter filter({"END", "abab"});
  EXPECT_EQ(filter.push("xE"), "x");
  EXPECT_EQ(filter.push("N"), "");
  EXPECT_EQ(filter.push("xab"), "ENx");
  EXPECT_EQ(filter.push("a"), "");
  EXPECT_EQ(filter.push("cab"), "abac");
  EXPECT_EQ(filter.push("abEND"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");

  StopFilter open({"END"});
  EXPECT_EQ(open.push("almost EN"), "almost ");
  EXPECT_EQ(open.flush(), "EN");
  StopFilter none({""});
  EXPECT_EQ(none.push("all of it"), "all of it");
}

TEST(StopFilter, EqualsCuttingTheWholeText) {
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += static_cast<char>('a' + random() % 2);
    std::vector<std::string> stops;
    for (int i = 0; i < 2; ++i) stops.push_back(text.substr(random() % 35, 4 + random() % 4));
    stops.push_back("bbbbbbbb");
    std::size_t cut = text.size();
    for (const std::string& stop : stops) cut = std::min(cut, text.find(stop));
    StopFilter filter(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t count = 1 + random() % 3;
      shown += filter.push(text.substr(at, count));
      at += count;
    }
    shown += filter.flush();
    // A stop string is found when its last character has come; of two that overlap, the one that
    // ends first wins, so the cut is never before the first stop's beginning.
    ASSERT_EQ(text.compare(0, shown.size(), shown), 0);
    ASSERT_GE(shown.size(), cut);
    for (const std::string& stop : stops) ASSERT_EQ(shown.find(stop), std::string::npos);
  }
}

TEST(Generate, StreamsWhatItReturns) {
  LoadedModel model = load_test_model("llama3", {});
  Engine engine(*model.backend);
  GenerateOptions options;
  options.max_tokens = 40;
  options.sampling.temperature = 1.0f;
  options.sampling.seed = 11;
  std::string streamed;
  std::atomic<bool> interrupt{false};
  auto prompt = model.tokenizer->encode("the cat", true);
  const auto whole = generate(
      model, engine, prompt, options, [&](std::string_view text) { streamed += text; }, interrupt);
  ASSERT_TRUE(whole.ok()) << whole.status().to_string();
  EXPECT_EQ(streamed, whole->text);
  EXPECT_EQ(whole->text, model.tokenizer->decode(whole->tokens, true));
  EXPECT_TRUE(engine.idle());

  // The same answer cut at a piece of itself.
  ASSERT_GT(whole->text.size(), 12u);
  options.stop = {whole->text.substr(6, 4)};
  const auto cut = generate(model, engine, prompt, options, nullptr, interrupt);
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->finish_reason, "stop");
  EXPECT_EQ(cut->text, whole->text.substr(0, whole->text.find(options.stop[0])));

  interrupt = true;
  const auto none = generate(model, engine, prompt, options, nullptr, interrupt);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->finish_reason, "cancelled");
  EXPECT_EQ(engine.metrics().pages_used, 0);
}

TEST(Perplexity, EqualsAPlainComputation) {
  std::mt19937 random(5);
  TestModelOptions options;
  options.precision = Precision::kFp32;
  options.max_logits_rows = 24;  // windows of 64 in uneven chunks
  LoadedModel model = load_test_model("qwen25", options);
  const auto tokens = random_tokens(random, 150, model.config.vocab_size);
  Backend* backends[] = {model.backend.get(), model.backend.get()};
  ThreadPool pool(2);
  const auto rows = measure_perplexity(backends, tokens, {.tokens = 1000, .context = 64}, pool,
                                       nullptr, std::atomic<bool>{false});
  ASSERT_TRUE(rows.ok()) << rows.status().to_string();
  double total = 0.0;
  std::int64_t scored = 0;
  for (std::size_t window = 0; window < tokens.size(); window += 64) {
    const std::size_t length = std::min<std::size_t>(64, tokens.size() - window);
    const std::vector<TokenId> part(tokens.begin() + static_cast<long>(window),
                                    tokens.begin() + static_cast<long>(window + length));
    const std::vector<float> logits = all_logits(*model.backend, part, 8, {0});
    for (std::size_t i = 0; i + 1 < length; ++i) {
      const float* row = logits.data() + i * static_cast<std::size_t>(model.config.vocab_size);
      double sum = 0.0;
      for (std::int64_t v = 0; v < model.config.vocab_size; ++v) sum += std::exp(double{row[v]});
      total += std::log(sum) - double{row[part[i + 1]]};
      ++scored;
    }
  }
  EXPECT_EQ((*rows)[0].scored, scored);
  EXPECT_NEAR((*rows)[0].negative_log_likelihood, total / static_cast<double>(scored), 1e-7);
  EXPECT_EQ((*rows)[1].top1_agreement, 1.0);
}

}  // namespace
}  // namespace liquidgemm
