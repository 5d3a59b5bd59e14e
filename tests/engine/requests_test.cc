// Requests through the whole engine: limits, times, and what an error of the backend leaves.
#include <map>

#include "engine/engine.h"
#include "engine/fake_backend.h"

namespace liquidgemm {
namespace {

constexpr BackendLimits kLimits{
    .max_rows = 64, .max_sequences = 8, .max_logits_rows = 8, .max_position = 1000, .pages = 5};

Request request_of(std::int64_t prompt, std::int64_t max_tokens) {
  Request request;
  request.prompt.assign(static_cast<std::size_t>(prompt), 7);
  request.max_tokens = max_tokens;
  return request;
}

TEST(Requests, WhatCanNeverFitIsRefusedWithBothNumbers) {
  FakeBackend backend(kLimits, 100);
  Engine engine(backend);
  EXPECT_TRUE(engine.submit(request_of(300, 21)).ok());
  const auto refused = engine.submit(request_of(300, 22));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  for (const char* said : {"6 pages", "321 tokens", "300", "there are 5", "max_tokens"}) {
    EXPECT_NE(refused.status().message().find(said), std::string::npos)
        << refused.status().message();
  }
  Request salted = request_of(1, 1);
  salted.cache_salt.assign(kMaxCacheSalt, 'x');
  EXPECT_TRUE(engine.submit(salted).ok());
  salted.cache_salt += 'x';
  const auto too_long = engine.submit(salted);
  ASSERT_FALSE(too_long.ok());
  EXPECT_NE(too_long.status().message().find("cache_salt"), std::string::npos);
}

TEST(Requests, NoMoreRunAtOnceThanAStepHasRowsOrLogits) {
  BackendLimits limits = kLimits;
  FakeBackend eight(limits, 100);
  EXPECT_EQ(Engine(eight).max_sequences(), 8);
  EXPECT_EQ(Engine(eight, {.max_sequences = 3}).max_sequences(), 3);
  EXPECT_EQ(Engine(eight, {.max_sequences = 100}).max_sequences(), 8);
  EXPECT_EQ(Engine(eight, {.max_batched_tokens = 5}).max_sequences(), 5);
  limits.max_logits_rows = 2;
  FakeBackend two(limits, 100);
  EXPECT_EQ(Engine(two).max_sequences(), 2);
}

TEST(Requests, RecordsTellTheTimesOfTheClock) {
  FakeBackend backend(kLimits, 100);
  TimePoint now{};
  const auto at = [](int seconds) { return TimePoint{} + std::chrono::seconds(seconds); };
  Engine engine(backend, {.max_sequences = 1, .clock = [&] { return now; }});
  now = at(1);
  const auto first = engine.submit(request_of(100, 2));
  now = at(2);
  const auto second = engine.submit(request_of(100, 5));
  ASSERT_TRUE(first.ok() && second.ok());
  std::vector<Update> ends;
  for (int second_of_day = 3; second_of_day < 8; ++second_of_day) {
    now = at(second_of_day);
    const auto updates = engine.step();
    ASSERT_TRUE(updates.ok());
    for (const Update& update : *updates) {
      EXPECT_EQ(update.record.has_value(), update.finish != FinishReason::kNone);
      if (update.record) ends.push_back(update);
    }
  }
  // 3: 64 tokens of the first, 4: its first token, 5: its second and last; 6: the second begins.
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].request, *first);
  EXPECT_EQ(ends[0].record->arrival, at(1));
  EXPECT_EQ(ends[0].record->first_scheduled, at(3));
  EXPECT_EQ(ends[0].record->first_token, at(4));
  EXPECT_EQ(ends[0].record->finished, at(5));
  EXPECT_EQ(ends[0].record->prompt_tokens, 100);
  EXPECT_EQ(ends[0].record->answer_tokens, 2);
  EXPECT_EQ(ends[0].record->cached_tokens, 0);
  now = at(9);
  const auto cancelled = engine.cancel(*second);
  ASSERT_TRUE(cancelled);
  EXPECT_EQ(cancelled->arrival, at(2));
  EXPECT_EQ(cancelled->first_scheduled, at(6));
  EXPECT_EQ(cancelled->finished, at(9));
  EXPECT_EQ(cancelled->cached_tokens, kPageTokens);
  EXPECT_FALSE(engine.cancel(*second));
  EXPECT_TRUE(engine.idle());
  EXPECT_EQ(engine.metrics().pages_used, 0);
}

// One that runs and one that waits end at their deadlines, whatever the backend says; who has none,
// or a later one, goes on.
TEST(Requests, EndAtTheirDeadlines) {
  FakeBackend backend(kLimits, 100);
  TimePoint now{};
  const auto at = [](int seconds) { return TimePoint{} + std::chrono::seconds(seconds); };
  Engine engine(backend, {.max_sequences = 2, .clock = [&] { return now; }});
  std::map<RequestId, std::vector<Update>> updates;
  const auto step = [&](int second, bool failing = false) {
    now = at(second);
    backend.set_failing(failing);
    auto some = engine.step();
    EXPECT_EQ(some.ok(), !failing);
    if (!some.ok()) return;
    for (Update& update : *some) updates[update.request].push_back(std::move(update));
  };
  const auto submit = [&](int deadline) {
    Request request = request_of(70, 40);
    if (deadline > 0) request.deadline = at(deadline);
    const auto id = engine.submit(std::move(request));
    EXPECT_TRUE(id.ok());
    return id.ok() ? *id : 0;
  };
  const RequestId runs = submit(10);
  const RequestId goes_on = submit(0);
  const RequestId waits = submit(10);
  const RequestId cancelled = submit(10);
  const RequestId later = submit(1000);
  for (int second = 1; second < 10; ++second) step(second);
  EXPECT_EQ(engine.metrics().waiting, 3);
  EXPECT_TRUE(engine.cancel(cancelled));
  const std::size_t tokens = updates[runs].size();
  EXPECT_GT(tokens, 0u);
  EXPECT_EQ(updates.count(waits), 0u);

  // The backend's errors delay what is told of it and nothing else.
  step(10, /*failing=*/true);
  EXPECT_EQ(engine.metrics().running, 2);  // the later one has taken the place
  EXPECT_EQ(engine.metrics().waiting, 0);
  step(11);
  ASSERT_EQ(updates[runs].size(), tokens + 1);
  ASSERT_EQ(updates[waits].size(), 1u);
  for (const RequestId id : {runs, waits}) {
    const Update& end = updates[id].back();
    EXPECT_EQ(end.finish, FinishReason::kTimeout);
    EXPECT_EQ(end.token, -1);
    ASSERT_TRUE(end.record);
    EXPECT_EQ(end.record->finished, at(10));
    EXPECT_EQ(end.record->first_scheduled.has_value(), id == runs);
    EXPECT_EQ(end.record->answer_tokens, static_cast<std::int64_t>(id == runs ? tokens : 0));
  }
  for (int second = 12; second < 100 && !engine.idle(); ++second) step(second);
  EXPECT_EQ(updates.count(cancelled), 0u);
  for (const RequestId id : {goes_on, later}) {
    EXPECT_EQ(updates[id].size(), 40u);
    EXPECT_EQ(updates[id].back().finish, FinishReason::kLength);
  }
  EXPECT_EQ(engine.metrics().pages_used, 0);

  // Too late from the beginning, and nothing else to do: no step is run.
  const std::int64_t rows = backend.rows();
  const RequestId late = submit(1);
  step(200);
  EXPECT_TRUE(engine.idle());
  ASSERT_EQ(updates[late].size(), 1u);
  EXPECT_EQ(updates[late][0].finish, FinishReason::kTimeout);
  EXPECT_EQ(backend.rows(), rows);
  EXPECT_EQ(backend.error(), "");
}

// A backend that refuses some of its steps.
TEST(Requests, AStepThatFailsChangesNoAnswer) {
  FakeBackend backend(kLimits, 100);
  std::vector<TokenId> answers[2];
  for (const bool failing : {false, true}) {
    Engine engine(backend);
    ASSERT_TRUE(engine.submit(request_of(150, 30)).ok());
    for (int step = 0; !engine.idle(); ++step) {
      ASSERT_LT(step, 200);
      backend.set_failing(failing && step % 3 != 2);
      const auto updates = engine.step();
      EXPECT_EQ(updates.ok(), !(failing && step % 3 != 2));
      if (!updates.ok()) continue;
      for (const Update& update : *updates) answers[failing].push_back(update.token);
    }
    EXPECT_EQ(engine.metrics().pages_used, 0);
  }
  EXPECT_EQ(answers[0].size(), 30u);
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_EQ(backend.error(), "");
}

// Greedy, penalised and sampled requests get the same tokens with so few pages that they preempt
// each other as alone.
TEST(Requests, PreemptionChangesNoAnswer) {
  BackendLimits limits = kLimits;
  limits.pages = 7;
  FakeBackend backend(limits, 100);
  std::vector<Request> requests;
  for (int i = 0; i < 5; ++i) {
    Request request = request_of(30 + i, 250);
    request.sampling.seed = static_cast<std::uint64_t>(i);
    request.sampling.frequency_penalty = i % 2 == 0 ? 0.5f : 0.0f;
    requests.push_back(request);
  }
  for (const bool prefix_caching : {false, true}) {
    std::map<RequestId, std::vector<TokenId>> together;
    Engine engine(backend, {.prefix_caching = prefix_caching});
    for (const Request& request : requests) ASSERT_TRUE(engine.submit(request).ok());
    std::int64_t preempted = 0;
    while (!engine.idle()) {
      const auto updates = engine.step();
      ASSERT_TRUE(updates.ok());
      for (const Update& update : *updates) {
        together[update.request].push_back(update.token);
        if (update.record) preempted += update.record->preemptions;
      }
    }
    EXPECT_GT(preempted, 0);
    EXPECT_EQ(preempted, engine.metrics().preemptions);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      Engine lone(backend, {.prefix_caching = prefix_caching});
      ASSERT_TRUE(lone.submit(requests[i]).ok());
      std::vector<TokenId> alone;
      while (!lone.idle()) {
        const auto updates = lone.step();
        ASSERT_TRUE(updates.ok());
        for (const Update& update : *updates) alone.push_back(update.token);
      }
      EXPECT_EQ(alone.size(), 250u);
      EXPECT_EQ(together[static_cast<RequestId>(i) + 1], alone) << "request " << i;
    }
  }
  EXPECT_EQ(backend.error(), "");
}

}  // namespace
}  // namespace liquidgemm
