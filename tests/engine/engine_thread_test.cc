// Many threads that submit and cancel, one engine.
#include "engine/engine_thread.h"

#include <future>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "engine/fake_backend.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

using std::chrono::seconds;
using testing::fresh_seed;

constexpr std::int64_t kVocabulary = 200;
constexpr BackendLimits kLimits{
    .max_rows = 64, .max_sequences = 8, .max_logits_rows = 8, .max_position = 1000, .pages = 16};

Request random_request(std::uint64_t& random) {
  const auto next = [&](std::uint64_t below) { return splitmix64(random++) % below; };
  Request request;
  request.prompt.resize(1 + next(90));
  for (TokenId& token : request.prompt) token = static_cast<TokenId>(next(kVocabulary));
  request.max_tokens = static_cast<std::int64_t>(1 + next(40));
  request.sampling.seed = next(1000);
  return request;
}

// The answer of an engine that nobody else uses.
std::vector<TokenId> lone_answer(const Request& request) {
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  EXPECT_TRUE(engine.submit(request).ok());
  std::vector<TokenId> answer;
  while (!engine.idle()) {
    const auto updates = engine.step();
    for (const Update& update : *updates) {
      if (update.token >= 0) answer.push_back(update.token);
    }
  }
  return answer;
}

// What listeners heard of one request.
struct Heard {
  std::vector<TokenId> tokens;
  std::vector<FinishReason> ends;
};

// Steps wait in front of it while it is shut.
class Gate {
 public:
  void set(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrivals_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void wait_for_arrival() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrivals_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int arrivals_ = 0;
};

class CountingObserver final : public EngineObserver {
 public:
  void next_token(std::chrono::nanoseconds since_last) override {
    EXPECT_GE(since_last.count(), 0);
    ++gaps;
  }
  void ended(const RequestRecord& record, std::optional<FinishReason> finish) override {
    EXPECT_TRUE(record.finished.has_value());
    tokens += record.answer_tokens;
    if (record.first_token) ++begun;
    ++(finish ? ended_ : cancelled);
  }
  std::atomic<std::int64_t> gaps = 0, tokens = 0, begun = 0, ended_ = 0, cancelled = 0;
};

TEST(EngineThread, ManyThreadsGetTheirOwnAnswersWhileOthersCancel) {
  constexpr int kThreads = 6;
  constexpr int kBatches = 12;
  const std::uint64_t seed = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  CountingObserver observer;
  std::atomic<int> submitted = 0;
  std::atomic<int> answered = 0;
  {
    EngineThread thread(engine, {.max_waiting = 100'000, .observer = &observer});
    const auto client = [&](std::uint64_t random) {
      struct Batch {
        std::vector<Request> requests;
        std::vector<RequestId> ids;
        std::mutex mutex;  // the delivery thread writes
        std::vector<Heard> heard;
        bool cancelled = false;
        int after_cancel = 0;
      };
      std::vector<std::shared_ptr<Batch>> batches;
      for (int i = 0; i < kBatches; ++i) {
        auto batch = std::make_shared<Batch>();
        const std::size_t count = 1 + splitmix64(random++) % 3;
        for (std::size_t j = 0; j < count; ++j) batch->requests.push_back(random_request(random));
        batch->heard.resize(count);
        const auto ids =
            thread.submit(batch->requests, [batch](std::size_t index, const Update& update) {
              const std::lock_guard lock(batch->mutex);
              if (batch->cancelled) ++batch->after_cancel;
              Heard& heard = batch->heard[index];
              if (update.token >= 0) heard.tokens.push_back(update.token);
              if (update.finish != FinishReason::kNone) heard.ends.push_back(update.finish);
            });
        ASSERT_TRUE(ids.ok()) << ids.status().to_string();
        ASSERT_EQ(ids->size(), count);
        submitted += static_cast<int>(count);
        batch->ids = *ids;
        batches.push_back(batch);
        if (splitmix64(random++) % 3 == 0) {
          const auto& chosen = batches[splitmix64(random++) % batches.size()];
          thread.cancel(chosen->ids);
          const std::lock_guard lock(chosen->mutex);
          chosen->cancelled = true;
        }
        if (splitmix64(random++) % 4 == 0) std::this_thread::yield();
        EXPECT_GE(thread.metrics().running, 0);
        EXPECT_TRUE(thread.health().ok());
        EXPECT_GE(thread.step_age().count(), 0);
      }
      while (!thread.wait_idle(seconds(1))) {
      }
      for (const auto& batch : batches) {
        const std::lock_guard lock(batch->mutex);
        EXPECT_LE(batch->after_cancel, 1);
        for (std::size_t i = 0; i < batch->requests.size(); ++i) {
          const std::vector<TokenId> expected = lone_answer(batch->requests[i]);
          const Heard& heard = batch->heard[i];
          if (!batch->cancelled) {
            EXPECT_EQ(heard.tokens, expected);
            EXPECT_EQ(heard.ends.size(), 1u);
            ++answered;
          } else {
            ASSERT_LE(heard.tokens.size(), expected.size());
            EXPECT_TRUE(std::equal(heard.tokens.begin(), heard.tokens.end(), expected.begin()));
            EXPECT_LE(heard.ends.size(), 1u);
          }
        }
      }
    };
    std::vector<std::thread> clients;
    for (int i = 0; i < kThreads; ++i) {
      clients.emplace_back(client, seed + 1'000'000 * static_cast<std::uint64_t>(i));
    }
    for (std::thread& one : clients) one.join();
    EXPECT_EQ(thread.metrics().running, 0);
    EXPECT_EQ(thread.metrics().waiting, 0);
    EXPECT_EQ(thread.metrics().pages_used, 0);
    EXPECT_EQ(thread.step_age().count(), 0);
  }
  EXPECT_EQ(backend.error(), "");
  EXPECT_TRUE(engine.idle());
  EXPECT_GT(answered, 0);
  EXPECT_EQ(observer.ended_ + observer.cancelled, submitted);
  EXPECT_EQ(observer.gaps, observer.tokens - observer.begun);
}

TEST(EngineThread, RefusesAllOfASubmissionOrNothing) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Gate gate;
  gate.set(false);
  backend.set_on_step([&] { gate.pass(); });
  Engine engine(backend, {.max_sequences = 1});
  EngineThread thread(engine, {.max_waiting = 2});
  std::atomic<int> ends = 0;
  const auto listener = [&](std::size_t, const Update& update) {
    if (update.finish != FinishReason::kNone) ++ends;
  };
  const auto submit = [&](std::size_t count) {
    std::vector<Request> requests;
    for (std::size_t i = 0; i < count; ++i) requests.push_back(random_request(random));
    return thread.submit(std::move(requests), listener).status();
  };
  EXPECT_TRUE(submit(2).ok());
  gate.wait_for_arrival();
  EXPECT_EQ(submit(2).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(submit(1).ok());
  EXPECT_EQ(thread.metrics().running + thread.metrics().waiting, 1);  // as of the last step
  EXPECT_EQ(submit(1).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(submit(0).ok());
  EXPECT_FALSE(thread.wait_idle(std::chrono::milliseconds(1)));
  EXPECT_GT(thread.step_age().count(), 0);
  // What is wrong with one request is said, and none of them runs.
  std::vector<Request> requests{random_request(random), random_request(random)};
  requests[1].max_tokens = 0;
  const auto refused = thread.submit(requests, listener);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("max_tokens"), std::string::npos);
  gate.set(true);
  EXPECT_TRUE(thread.wait_idle(seconds(100)));
  EXPECT_EQ(ends, 3);
  EXPECT_TRUE(submit(3).ok());
  EXPECT_TRUE(thread.wait_idle(std::chrono::nanoseconds::max()));
  EXPECT_EQ(ends, 6);
}

TEST(EngineThread, DrainsToTheEndAndTakesNothingNew) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  EngineThread thread(engine);
  std::atomic<int> ends = 0;
  std::vector<Request> requests;
  for (int i = 0; i < 20; ++i) requests.push_back(random_request(random));
  ASSERT_TRUE(thread
                  .submit(requests,
                          [&](std::size_t, const Update& update) {
                            if (update.finish != FinishReason::kNone) ++ends;
                          })
                  .ok());
  thread.drain();
  EXPECT_EQ(thread.submit({random_request(random)}, nullptr).status().code(),
            StatusCode::kUnavailable);
  EXPECT_TRUE(thread.wait_idle(seconds(100)));
  EXPECT_EQ(ends, 20);
}

TEST(EngineThread, DestroyedWithWorkLeftItCancelsTheRest) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  CountingObserver observer;
  std::atomic<bool> gone = false;
  std::atomic<int> late = 0;
  std::promise<void> first;
  std::atomic<bool> told = false;
  {
    EngineThread thread(engine, {.observer = &observer});
    std::vector<Request> requests;
    for (int i = 0; i < 30; ++i) requests.push_back(random_request(random));
    requests[0].max_tokens = 900;
    ASSERT_TRUE(thread
                    .submit(requests,
                            [&](std::size_t, const Update&) {
                              if (gone) ++late;
                              if (!told.exchange(true)) first.set_value();
                            })
                    .ok());
    first.get_future().wait();
  }
  gone = true;
  EXPECT_EQ(late, 0);
  EXPECT_TRUE(engine.idle());
  EXPECT_EQ(engine.metrics().pages_used, 0);
  EXPECT_EQ(observer.ended_ + observer.cancelled, 30);
  // The engine is its owner's again.
  const Request request = random_request(random);
  ASSERT_TRUE(engine.submit(request).ok());
  std::vector<TokenId> answer;
  while (!engine.idle()) {
    const auto updates = engine.step();
    for (const Update& update : *updates) {
      if (update.token >= 0) answer.push_back(update.token);
    }
  }
  EXPECT_EQ(answer, lone_answer(request));
}

TEST(EngineThread, ASlowListenerDelaysNoStep) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  EngineThread thread(engine);
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  Request request = random_request(random);
  request.max_tokens = 30;
  std::vector<TokenId> heard;
  ASSERT_TRUE(thread
                  .submit({request},
                          [&](std::size_t, const Update& update) {
                            released.wait();
                            if (update.token >= 0) heard.push_back(update.token);
                          })
                  .ok());
  // The engine comes to the end although nobody has listened yet.
  while (thread.metrics().steps < 30 || thread.metrics().running > 0) std::this_thread::yield();
  EXPECT_FALSE(thread.wait_idle(std::chrono::nanoseconds(0)));
  release.set_value();
  EXPECT_TRUE(thread.wait_idle(seconds(100)));
  EXPECT_EQ(heard, lone_answer(request));
}

TEST(EngineThread, AFailedStepEndsItsRequestsAndTheNextOneRuns) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  EngineThread thread(engine);
  const auto run = [&] {
    std::vector<FinishReason> ends(12, FinishReason::kNone);
    std::vector<Request> requests;
    for (std::size_t i = 0; i < ends.size(); ++i) requests.push_back(random_request(random));
    EXPECT_TRUE(thread
                    .submit(requests,
                            [&](std::size_t index, const Update& update) {
                              if (update.finish != FinishReason::kNone) ends[index] = update.finish;
                            })
                    .ok());
    EXPECT_TRUE(thread.wait_idle(seconds(100)));
    return ends;
  };
  EXPECT_EQ(run(), std::vector(12, FinishReason::kLength));
  EXPECT_TRUE(thread.health().ok());
  backend.set_failing(true);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run(), std::vector(12, FinishReason::kError));
    EXPECT_FALSE(thread.health().ok());
  }
  backend.set_failing(false);
  EXPECT_FALSE(thread.health().ok());
  EXPECT_EQ(run(), std::vector(12, FinishReason::kLength));
  EXPECT_TRUE(thread.health().ok());
  EXPECT_EQ(backend.error(), "");
}

TEST(EngineThread, AStepThatThrowsEndsItsRequests) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  std::atomic<bool> broken = true;
  backend.set_on_step([&] {
    if (broken) throw std::runtime_error("the device is gone");
  });
  Engine engine(backend);
  EngineThread thread(engine);
  for (const FinishReason expected : {FinishReason::kError, FinishReason::kLength}) {
    std::atomic<int> ends = 0;
    ASSERT_TRUE(thread
                    .submit({random_request(random), random_request(random)},
                            [&](std::size_t, const Update& update) {
                              if (update.finish == FinishReason::kNone) return;
                              EXPECT_EQ(update.finish, expected);
                              EXPECT_TRUE(update.record.has_value());
                              ++ends;
                            })
                    .ok());
    ASSERT_TRUE(thread.wait_idle(seconds(100)));
    EXPECT_EQ(ends, 2);
    EXPECT_EQ(thread.health().ok(), expected == FinishReason::kLength);
    if (expected == FinishReason::kError) {
      EXPECT_NE(thread.health().message().find("the device is gone"), std::string::npos);
    }
    EXPECT_EQ(thread.metrics().pages_used, 0);
    broken = false;
  }
}

TEST(EngineThread, ListenersMayThrowCancelAndSubmit) {
  std::uint64_t random = fresh_seed();
  FakeBackend backend(kLimits, kVocabulary);
  Engine engine(backend);
  CountingObserver observer;
  std::atomic<int> throws = 0, ends = 0, own = 0;
  EngineThread thread(engine, {.observer = &observer});
  Request endless = random_request(random);
  endless.max_tokens = 900;
  ASSERT_TRUE(thread
                  .submit({endless},
                          [&](std::size_t, const Update&) {
                            ++throws;
                            throw std::runtime_error("a broken listener");
                          })
                  .ok());
  // Cancels itself at its first token and then asks for something else.
  const Request next = random_request(random);
  ASSERT_TRUE(thread
                  .submit({endless},
                          [&](std::size_t, const Update& update) {
                            ++own;
                            thread.cancel({update.request, 1'000'000});
                            EXPECT_TRUE(thread
                                            .submit({next},
                                                    [&](std::size_t, const Update& later) {
                                                      if (later.finish != FinishReason::kNone) {
                                                        ++ends;
                                                      }
                                                    })
                                            .ok());
                          })
                  .ok());
  ASSERT_TRUE(thread.wait_idle(seconds(100)));
  EXPECT_EQ(throws, 1);
  EXPECT_EQ(own, 1);
  EXPECT_EQ(ends, 1);
  // The engine may have come to their ends before it heard of it.
  EXPECT_EQ(observer.cancelled + observer.ended_, 3);
}

}  // namespace
}  // namespace liquidgemm
