// Log-probabilities, biases, the fewest tokens and constraints: what they do, and that company,
// chunks and preemption change no bit of it.
#include <cmath>
#include <cstring>
#include <map>

#include "engine/engine.h"
#include "engine/fake_backend.h"
#include "engine/fake_constraint.h"
#include "engine/model_fixture.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  RequestRecord record;
};

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool same(const std::vector<PositionLogprobs>& a, const std::vector<PositionLogprobs>& b) {
  const auto same_one = [](const TokenLogprob& x, const TokenLogprob& y) {
    return x.token == y.token && same_bits(x.logprob, y.logprob);
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const auto& x, const auto& y) {
    return same_one(x.chosen, y.chosen) &&
           std::equal(x.top.begin(), x.top.end(), y.top.begin(), y.top.end(), same_one);
  });
}

std::map<RequestId, Answer> run(Engine& engine) {
  std::map<RequestId, Answer> answers;
  while (!engine.idle()) {
    const auto updates = engine.step();
    EXPECT_TRUE(updates.ok()) << updates.status().to_string();
    if (!updates.ok()) break;
    for (const Update& update : *updates) {
      Answer& answer = answers[update.request];
      if (update.token >= 0) answer.tokens.push_back(update.token);
      if (update.logprobs) answer.logprobs.push_back(*update.logprobs);
      answer.prompt_logprobs.insert(answer.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                                    update.prompt_logprobs.end());
      answer.finish = update.finish;
      if (update.record) answer.record = *update.record;
    }
  }
  return answers;
}

Answer run_one(Engine& engine, Request request) {
  const auto id = engine.submit(std::move(request));
  EXPECT_TRUE(id.ok()) << id.status().to_string();
  return id.ok() ? run(engine)[*id] : Answer{};
}

TEST(RequestFields, AreTheSameAloneInCompanyInChunksAndPreempted) {
  const std::uint64_t seed = testing::fresh_seed();
  std::mt19937 random(static_cast<unsigned>(seed));
  TestModelOptions options;
  options.threads = 2;
  options.max_logits_rows = 40;
  LoadedModel roomy = load_test_model("llama3", options);
  options.max_rows = 70;
  options.max_logits_rows = 9;
  // Two or three start, with two or three pages each, and need up to six.
  options.pages = 8;
  LoadedModel tight = load_test_model("llama3", options);
  const std::int64_t vocabulary = roomy.config.vocab_size;

  const auto common = random_tokens(random, 70, vocabulary);
  std::vector<Request> requests;
  for (int i = 0; i < 8; ++i) {
    Request request;
    request.prompt = common;
    const auto own = random_tokens(random, 1 + random() % 60, vocabulary);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.max_tokens = 180 + static_cast<std::int64_t>(random() % 20);
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.1f;
    request.sampling.seed = random();
    request.sampling.repetition_penalty = i % 4 == 0 ? 1.3f : 1.0f;
    request.logprobs = std::array{-1, 0, 5, 20}[static_cast<std::size_t>(i) % 4];
    request.prompt_logprobs = std::array{3, -1, 0}[static_cast<std::size_t>(i) % 3];
    if (i % 2 == 0)
      request.logit_bias = {{static_cast<TokenId>(8 + random() % 504), 4.0f}, {7, -9.5f}};
    if (i % 3 == 1) {
      request.stop_tokens = random_tokens(random, 40, vocabulary);
      request.min_tokens = 60;
    }
    requests.push_back(std::move(request));
  }
  const auto with_constraint = [&](std::size_t i) {
    Request request = requests[i];
    if (i % 4 > 1) {
      request.constraint = std::make_shared<FakeConstraint>(
          seed + i, 1 + i, vocabulary, request.max_tokens + (i % 4 == 2 ? 0 : -50),
          request.stop_tokens.empty() ? 9 : request.stop_tokens[0]);
    }
    return request;
  };
  std::vector<Answer> alone;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Engine engine(*roomy.backend, {.prefix_caching = false});
    alone.push_back(run_one(engine, with_constraint(i)));
    EXPECT_GE(std::ssize(alone[i].tokens), i % 4 > 1 ? 1 : requests[i].min_tokens);
    if (requests[i].prompt_logprobs >= 0) {
      ASSERT_EQ(alone[i].prompt_logprobs.size(), requests[i].prompt.size() - 1);
    }
    // They are what the logits say, of the very bits that a plain run gives.
    std::vector<TokenId> all = requests[i].prompt;
    all.insert(all.end(), alone[i].tokens.begin(), alone[i].tokens.end());
    const std::vector<float> logits = all_logits(*roomy.backend, all, 40, {0, 1, 2, 3, 4, 5});
    const auto check = [&](const std::vector<PositionLogprobs>& found, std::size_t first,
                           std::int32_t top) {
      for (std::size_t j = 0; j < found.size(); ++j) {
        TokenScore score;
        score_token(std::span(logits).subspan((first + j) * static_cast<std::size_t>(vocabulary),
                                              static_cast<std::size_t>(vocabulary)),
                    all[first + j + 1], top, score);
        ASSERT_EQ(found[j].chosen.token, all[first + j + 1]);
        ASSERT_TRUE(same_bits(found[j].chosen.logprob, score.logprob));
        ASSERT_EQ(std::ssize(found[j].top), top);
        for (std::int32_t t = 0; t < top; ++t) {
          ASSERT_EQ(found[j].top[static_cast<std::size_t>(t)].token,
                    score.top[static_cast<std::size_t>(t)].token);
        }
      }
    };
    check(alone[i].prompt_logprobs, 0, requests[i].prompt_logprobs);
    check(alone[i].logprobs, requests[i].prompt.size() - 1, requests[i].logprobs);
    ASSERT_EQ(alone[i].logprobs.size(), requests[i].logprobs >= 0 ? alone[i].tokens.size() : 0);
  }
  const auto compare = [&](Engine& engine, const char* how) {
    std::vector<RequestId> ids;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto id = engine.submit(with_constraint(i));
      ASSERT_TRUE(id.ok()) << id.status().to_string();
      ids.push_back(*id);
    }
    auto answers = run(engine);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const Answer& answer = answers[ids[i]];
      EXPECT_EQ(answer.tokens, alone[i].tokens) << how << ", request " << i;
      EXPECT_EQ(answer.finish, alone[i].finish) << how << ", request " << i;
      EXPECT_TRUE(same(answer.logprobs, alone[i].logprobs)) << how << ", request " << i;
      EXPECT_TRUE(same(answer.prompt_logprobs, alone[i].prompt_logprobs))
          << how << ", request " << i;
    }
    EXPECT_EQ(engine.metrics().pages_used, 0);
  };
  Engine company(*roomy.backend, {.prompt_chunk = 33, .prefix_caching = false});
  compare(company, "company");
  Engine cached(*roomy.backend);
  compare(cached, "prefix caching");
  compare(cached, "after a prefix hit");
  EXPECT_GT(cached.metrics().prefix_hit_tokens, 0);
  for (const bool prefix_caching : {false, true}) {
    Engine scarce(*tight.backend, {.prefix_caching = prefix_caching});
    compare(scarce, "scarce pages");
    EXPECT_GT(scarce.metrics().preemptions, 0);
  }
}

constexpr BackendLimits kLimits{
    .max_rows = 64, .max_sequences = 4, .max_logits_rows = 4, .max_position = 1000, .pages = 20};
constexpr std::int64_t kVocabulary = 100;

Request request_of(std::int64_t prompt, std::int64_t max_tokens) {
  Request request;
  for (std::int64_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<TokenId>(i % 100));
  request.max_tokens = max_tokens;
  return request;
}

TEST(RequestFields, PromptLogprobsComputeTheWholePromptAndPublishIt) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  Request request = request_of(200, 2);
  run_one(engine, request);
  request.prompt_logprobs = 2;
  request.prompt[199] = 3;
  const Answer scored = run_one(engine, request);
  EXPECT_EQ(scored.record.cached_tokens, 0);
  ASSERT_EQ(scored.prompt_logprobs.size(), 199u);
  EXPECT_EQ(scored.prompt_logprobs[198].chosen.token, 3);
  // At four rows of logits a step: 199 of the prompt's and one that samples.
  EXPECT_EQ(engine.metrics().steps, 5 + 50 + 1);
  EXPECT_EQ(engine.metrics().prefix_query_tokens, 200);
  request.prompt_logprobs = -1;
  EXPECT_EQ(run_one(engine, request).record.cached_tokens, 192);
}

TEST(RequestFields, PromptLogprobsDelayNobody) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  Request scored = request_of(300, 1);
  scored.prompt_logprobs = 0;
  ASSERT_TRUE(engine.submit(scored).ok());
  ASSERT_TRUE(engine.step().ok());
  std::vector<RequestId> others;
  for (int i = 0; i < 3; ++i) others.push_back(*engine.submit(request_of(10, 5)));
  std::map<RequestId, int> tokens;
  for (int step = 0; step < 5; ++step) {
    const auto updates = engine.step();
    ASSERT_TRUE(updates.ok()) << updates.status().to_string();
    for (const Update& update : *updates) ++tokens[update.request];
  }
  for (const RequestId id : others) EXPECT_EQ(tokens[id], 5);
  run(engine);
  EXPECT_EQ(backend.error(), "");
}

TEST(RequestFields, AConstraintEndsAnAnswer) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  const auto with = [](std::uint64_t sparsity, std::int64_t end_after) {
    Request request = request_of(5, 50);
    request.constraint =
        std::make_shared<FakeConstraint>(1, sparsity, kVocabulary, end_after, /*end_token=*/42);
    return request;
  };
  Request request = with(3, 10);
  request.stop_tokens = {42};
  Answer answer = run_one(engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.tokens.size(), 10u);
  // The grammar's end comes before the fewest tokens.
  request = with(0, 10);
  request.stop_tokens = {42};
  request.min_tokens = 30;
  answer = run_one(engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.tokens.size(), 10u);
  // Nothing may come after the end token, which is none of the stop tokens here.
  answer = run_one(engine, with(0, 10));
  EXPECT_EQ(answer.finish, FinishReason::kError);
  EXPECT_EQ(answer.tokens.size(), 11u);
  EXPECT_EQ(run_one(engine, with(0, 50)).finish, FinishReason::kLength);
}

TEST(RequestFields, StopTokensAreNotDrawnBeforeTheFewestTokens) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  Request request = request_of(5, 50);
  for (TokenId token = 0; token < 99; ++token) request.stop_tokens.push_back(token);
  request.min_tokens = 20;
  const Answer answer = run_one(engine, request);
  EXPECT_GE(answer.tokens.size(), 20u);
  EXPECT_LT(answer.tokens.size(), 50u);
  EXPECT_EQ(answer.tokens, std::vector<TokenId>(answer.tokens.size(), 99));
}

TEST(RequestFields, RefusalsNameTheField) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refuse = [&](auto set, const std::string& field) {
    Request request = request_of(5, 10);
    set(request);
    const Status status = engine.check(request);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << field;
    EXPECT_NE(status.message().find(field), std::string::npos) << status.message();
    EXPECT_EQ(engine.submit(request).status().message(), status.message());
  };
  EXPECT_TRUE(engine.check(request_of(5, 10)).ok());
  refuse([](Request& r) { r.min_tokens = -1; }, "min_tokens");
  refuse([](Request& r) { r.min_tokens = 11; }, "min_tokens");
  for (const std::int32_t count : {-2, kMaxLogprobs + 1}) {
    refuse([&](Request& r) { r.logprobs = count; }, "logprobs");
    refuse([&](Request& r) { r.prompt_logprobs = count; }, "prompt_logprobs");
  }
  for (const float bias : {nan, 100.5f, -101.0f, INFINITY, -INFINITY}) {
    refuse([&](Request& r) { r.logit_bias = {{5, bias}}; }, "logit_bias: token 5");
  }
  refuse([](Request& r) { r.logit_bias = {{100, 1.0f}}; }, "logit_bias: token 100");
  refuse([](Request& r) { r.logit_bias = {{-1, 1.0f}}; }, "logit_bias: token -1");
  refuse([](Request& r) { r.logit_bias = {{1, 1.0f}, {2, 1.0f}, {1, 1.0f}}; }, "twice");
  refuse([](Request& r) { r.logit_bias.resize(kMaxLogitBiases + 1); }, "logit_bias: 1025");
  refuse([](Request& r) { r.stop_tokens.resize(kMaxStopTokens + 1); }, "stop_token_ids");
  Request most = request_of(5, 10);
  most.min_tokens = 10;
  most.logprobs = most.prompt_logprobs = kMaxLogprobs;
  most.logit_bias = {{0, 100.0f}, {99, -100.0f}};
  EXPECT_TRUE(engine.check(most).ok());
  EXPECT_TRUE(engine.idle());
}

}  // namespace
}  // namespace liquidgemm
