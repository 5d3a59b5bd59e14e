// The scheduler's decisions, one at a time: no backend, and a clock of the test's own.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <numeric>

#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  void start(const SchedulerOptions& options) { scheduler_.emplace(options); }

  // Tokens first, first + 1, ...: sequences with the same first token begin alike.
  Sequence& add(std::int64_t prompt, std::int64_t answer, TokenId first = -1,
                const std::string& salt = "") {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = ++last_id_;
    sequence->tokens.resize(static_cast<std::size_t>(prompt));
    std::iota(sequence->tokens.begin(), sequence->tokens.end(),
              first >= 0 ? first : static_cast<TokenId>(1'000'000 * sequence->id));
    sequence->request.cache_salt = salt;
    sequence->longest = prompt + answer - 1;
    sequence->record.prompt_tokens = prompt;
    Sequence& added = *sequence;
    scheduler_->add(std::move(sequence));
    return added;
  }

  using Rows = std::vector<std::pair<RequestId, std::int64_t>>;
  Rows schedule() {
    Rows rows;
    now_ += std::chrono::milliseconds(1);
    for (const Scheduler::Work& work : scheduler_->schedule(now_)) {
      rows.emplace_back(work.sequence->id, work.rows);
    }
    return rows;
  }
  // The step runs; whoever has no token missing gets one more.
  void complete() {
    scheduler_->complete();
    for (Sequence* sequence : scheduler_->running()) {
      if (sequence->missing() == 0) {
        sequence->tokens.push_back(static_cast<TokenId>(-sequence->length()));
      }
    }
  }
  Rows step() {
    const Rows rows = schedule();
    complete();
    return rows;
  }
  EngineMetrics metrics() const { return scheduler_->metrics(); }

  std::optional<Scheduler> scheduler_;
  RequestId last_id_ = 0;
  TimePoint now_{};
};

TEST_F(SchedulerTest, AnswersGetTheirTokenInEveryStepAndPromptsTheRest) {
  start({.pages = 100, .max_sequences = 4, .max_batched_tokens = 32});
  add(3, 50);
  EXPECT_EQ(step(), (Rows{{1, 3}}));
  add(100, 50);
  add(40, 50);
  // The earliest prompt has what answers leave; the next one starts when there are tokens left.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step(), (Rows{{1, 1}, {2, 31}}));
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 7}, {3, 24}}));
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 1}, {3, 16}}));
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 1}, {3, 1}}));
  EXPECT_EQ(metrics().steps, 7);
  EXPECT_EQ(metrics().running, 3);
}

TEST_F(SchedulerTest, APromptMovesOnBesideAsManyAnswersAsThereMayBe) {
  start({.pages = 100, .max_sequences = 4, .max_batched_tokens = 4});
  for (int i = 0; i < 3; ++i) add(1, 500);
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 1}, {3, 1}}));
  add(10, 5);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(step(), (Rows{{1, 1}, {2, 1}, {3, 1}, {4, 1}}));
  add(1, 1);
  EXPECT_EQ(step().size(), 4u) << "four run at once";
  EXPECT_EQ(metrics().waiting, 1);
}

TEST_F(SchedulerTest, ThePromptChunkLeavesTokensToTheNextPrompt) {
  start({.pages = 100, .max_sequences = 4, .max_batched_tokens = 32, .prompt_chunk = 10});
  add(25, 5);
  add(25, 5);
  EXPECT_EQ(step(), (Rows{{1, 10}, {2, 10}}));
  EXPECT_EQ(step(), (Rows{{1, 10}, {2, 10}}));
  EXPECT_EQ(step(), (Rows{{1, 5}, {2, 5}}));
}

TEST_F(SchedulerTest, PagesAreTakenAsSequencesGrow) {
  start({.pages = 10, .max_sequences = 2, .max_batched_tokens = 100});
  const Sequence& sequence = add(150, 300);
  step();
  EXPECT_EQ(sequence.pages.size(), 2u);  // 100 tokens
  step();
  EXPECT_EQ(sequence.pages.size(), 3u);  // 150
  while (sequence.length() < 193) step();
  EXPECT_EQ(sequence.pages.size(), 3u);  // 192, and one token that is not fed yet
  step();
  EXPECT_EQ(sequence.pages.size(), 4u);
  EXPECT_EQ(metrics().pages_used, 4);
}

TEST_F(SchedulerTest, TheLatestArrivalGivesWayAndComesBackFirst) {
  start({.pages = 6, .max_sequences = 4, .max_batched_tokens = 512, .prefix_caching = false});
  // Each has one page and may grow into a second and a third.
  for (int i = 0; i < 3; ++i) add(64, 129);
  EXPECT_EQ(step().size(), 3u);
  const Sequence& last = *scheduler_->running().back();
  add(1, 1);
  std::vector<TokenId> tokens;
  while (metrics().preemptions == 0) {
    tokens = last.tokens;
    step();
    ASSERT_LT(tokens.size(), 200u);
  }
  // When the first two reach their third page; the fourth request is not let past the third.
  EXPECT_EQ(tokens.size(), 129u);
  EXPECT_EQ(last.tokens, tokens) << "it keeps its answer";
  EXPECT_EQ(last.computed, 0);
  EXPECT_TRUE(last.pages.empty());
  EXPECT_EQ(last.record.preemptions, 1);
  EXPECT_EQ(metrics().running, 2);
  ASSERT_EQ(metrics().waiting, 2);
  EXPECT_EQ(scheduler_->waiting().front(), &last);
  EXPECT_EQ(metrics().pages_used, 6);
  scheduler_->remove(1);
  // All of it is computed again in one go, then it goes on where it was, as does the fourth.
  EXPECT_EQ(step(), (Rows{{2, 1}, {3, 129}}));
  EXPECT_EQ(last.length(), 130);
}

TEST_F(SchedulerTest, ARequestStartsWhenItsTokensFitBesideWhatOthersAreAboutToNeed) {
  start({.pages = 4, .max_sequences = 4, .max_batched_tokens = 512, .prefix_caching = false});
  add(60, 100);  // one page, and a second one soon
  step();
  add(180, 1);  // three pages
  add(1, 1);    // would fit, but came later
  for (int i = 0; i < 60; ++i) EXPECT_EQ(step(), (Rows{{1, 1}}));
  add(1, 1);
  scheduler_->remove(2);
  // The last page is the first sequence's, which may grow into a third.
  EXPECT_EQ(step(), (Rows{{1, 1}, {3, 1}}));
  EXPECT_EQ(metrics().pages_used, 3);
}

TEST_F(SchedulerTest, AnEarlyRequestIsNeverPreemptedForALateOne) {
  start({.pages = 4, .max_sequences = 4, .max_batched_tokens = 512, .prefix_caching = false});
  const Sequence& first = add(60, 190);
  const Sequence& second = add(60, 190);
  while (metrics().preemptions == 0) step();
  EXPECT_EQ(first.record.preemptions, 0);
  EXPECT_EQ(second.record.preemptions, 1);
  // The second waits for the first to end; it would only be preempted again.
  for (int i = 0; i < 40; ++i) EXPECT_EQ(step(), (Rows{{1, 1}}));
  EXPECT_EQ(second.record.preemptions, 1);
  scheduler_->remove(1);
  EXPECT_EQ(step().size(), 1u);
}

TEST_F(SchedulerTest, AStepThatDidNotRunIsDecidedAgain) {
  start({.pages = 4, .max_sequences = 4, .max_batched_tokens = 70});
  const Sequence& sequence = add(100, 10);
  const Rows rows = schedule();
  EXPECT_EQ(schedule(), rows);
  EXPECT_EQ(sequence.computed, 0);
  EXPECT_EQ(sequence.pages.size(), 2u);
  complete();
  EXPECT_EQ(sequence.computed, 70);
  EXPECT_EQ(schedule(), (Rows{{1, 30}}));
  scheduler_->remove(1);
  EXPECT_EQ(metrics().pages_used, 0);
  complete();  // of a step whose only sequence is gone
  EXPECT_EQ(schedule(), Rows{});
}

TEST_F(SchedulerTest, APrefixIsComputedOnce) {
  start({.pages = 20, .max_sequences = 4, .max_batched_tokens = 512});
  const Sequence& first = add(200, 10, 0);
  EXPECT_EQ(step(), (Rows{{1, 200}}));
  const std::vector<std::int32_t> pages = first.pages;
  // While the first still runs, then when it is gone.
  const Sequence& second = add(300, 10, 0);
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 300 - 3 * kPageTokens}}));
  EXPECT_TRUE(std::equal(pages.begin(), pages.begin() + 3, second.pages.begin()));
  EXPECT_NE(second.pages[3], pages[3]) << "the fourth page was not full";
  EXPECT_EQ(second.record.cached_tokens, 3 * kPageTokens);
  scheduler_->remove(1);
  scheduler_->remove(2);
  EXPECT_EQ(metrics().pages_used, 0);
  EXPECT_EQ(metrics().pages_cached, 4);
  add(257, 10, 0);
  EXPECT_EQ(step(), (Rows{{3, 1}}));
  EXPECT_EQ(metrics().prefix_query_tokens, 200 + 300 + 257);
  EXPECT_EQ(metrics().prefix_hit_tokens, 7 * kPageTokens);
}

TEST_F(SchedulerTest, TheLastTokenOfAPromptIsAlwaysComputed) {
  start({.pages = 20, .max_sequences = 4, .max_batched_tokens = 512});
  add(128, 1, 0);
  step();
  scheduler_->remove(1);
  EXPECT_EQ(metrics().pages_cached, 2);
  add(128, 1, 0);
  EXPECT_EQ(step(), (Rows{{2, kPageTokens}}));
  // The page that was computed twice is one page again.
  EXPECT_EQ(metrics().pages_used, 2);
  scheduler_->remove(2);
  EXPECT_EQ(metrics().pages_cached, 2);
  EXPECT_EQ(metrics().pages_free, 18);
}

TEST_F(SchedulerTest, PromptsThatStartTogetherMeetAgain) {
  start({.pages = 20, .max_sequences = 4, .max_batched_tokens = 512, .prompt_chunk = 64});
  add(200, 10, 0);
  add(200, 10, 0);
  EXPECT_EQ(step(), (Rows{{1, 64}, {2, 64}}));
  EXPECT_EQ(metrics().pages_used, 1) << "both hold the page that was linked first";
  for (int i = 0; i < 2; ++i) EXPECT_EQ(step(), (Rows{{1, 64}, {2, 64}}));
  EXPECT_EQ(metrics().pages_used, 3);
  // A third one catches up at once, as far as the prefix goes.
  add(200, 10, 0);
  EXPECT_EQ(step(), (Rows{{1, 8}, {2, 8}, {3, 8}}));
}

TEST_F(SchedulerTest, ARunningPromptGoesOnWithPagesThatOthersFinishedMeanwhile) {
  start({.pages = 40, .max_sequences = 4, .max_batched_tokens = 192, .prompt_chunk = 128});
  add(400, 10, 0);
  const Sequence& late = add(400, 10, 0);
  for (const std::int64_t computed : {64, 192, 320}) {
    EXPECT_EQ(step(), (Rows{{1, 128}, {2, 64}}));
    EXPECT_EQ(late.computed, computed);
  }
  EXPECT_EQ(step(), (Rows{{1, 16}, {2, 16}}));
  EXPECT_EQ(late.record.cached_tokens, 3 * kPageTokens);
  EXPECT_EQ(metrics().prefix_hit_tokens, 3 * kPageTokens);
}

TEST_F(SchedulerTest, AnotherSaltIsNeverAHit) {
  start({.pages = 20, .max_sequences = 4, .max_batched_tokens = 512});
  add(200, 10, 0, "a");
  step();
  add(200, 10, 0, "b");
  add(200, 10, 0);
  add(200, 10, 0, "a");
  EXPECT_EQ(step(), (Rows{{1, 1}, {2, 200}, {3, 200}, {4, 8}}));
}

TEST_F(SchedulerTest, WithoutPrefixCachingNothingIsKept) {
  start({.pages = 20, .max_sequences = 4, .max_batched_tokens = 512, .prefix_caching = false});
  for (int i = 0; i < 2; ++i) {
    add(200, 10, 0);
    EXPECT_EQ(step().back().second, 200);
    scheduler_->remove(last_id_);
    EXPECT_EQ(metrics().pages_free, 20);
  }
  EXPECT_EQ(metrics().prefix_query_tokens, 0);
}

TEST_F(SchedulerTest, TheLeastRecentlyUsedPrefixGoesFirstAndFromItsEnd) {
  start({.pages = 6, .max_sequences = 1, .max_batched_tokens = 512});
  const auto run = [&](std::int64_t prompt, TokenId first) {
    add(prompt, 1, first);
    step();
    scheduler_->remove(last_id_);
  };
  run(192, 0);       // three pages
  run(192, 10'000);  // three more
  EXPECT_EQ(metrics().pages_cached, 6);
  run(193, 0);  // the first text again: used after the second one, whose last page it takes
  EXPECT_EQ(metrics().pages_cached, 5);
  const std::int64_t hits = metrics().prefix_hit_tokens;
  EXPECT_EQ(hits, 192);
  run(192, 10'000);
  EXPECT_EQ(metrics().prefix_hit_tokens - hits, 128) << "two of its pages are still there";
}

TEST_F(SchedulerTest, APreemptedSequenceFindsItsOwnPages) {
  start({.pages = 7, .max_sequences = 4, .max_batched_tokens = 512});
  for (int i = 0; i < 3; ++i) add(64, 129);
  while (metrics().preemptions == 0) step();
  const Sequence& last = *scheduler_->waiting().front();
  EXPECT_EQ(last.length(), 129);
  scheduler_->remove(1);
  // One of its two full pages was taken by the second sequence.
  EXPECT_EQ(step(), (Rows{{2, 1}, {3, 129 - kPageTokens}}));
  EXPECT_EQ(last.record.cached_tokens, 0) << "of the prompt, others had computed nothing";
}

TEST_F(SchedulerTest, CancellingFreesPagesInEveryPhase) {
  start({.pages = 8, .max_sequences = 2, .max_batched_tokens = 100});
  add(200, 50);
  add(200, 50);
  add(200, 50);
  EXPECT_FALSE(scheduler_->remove(99));
  EXPECT_TRUE(scheduler_->remove(3));  // waiting, not yet seen
  step();
  EXPECT_TRUE(scheduler_->remove(1));  // in the middle of its prompt
  EXPECT_EQ(metrics().pages_used, 0);
  for (int i = 0; i < 3; ++i) step();
  EXPECT_TRUE(scheduler_->remove(2));  // in the middle of its answer
  EXPECT_FALSE(scheduler_->remove(2));
  EXPECT_EQ(metrics().pages_used, 0);
  EXPECT_TRUE(scheduler_->idle());

  start({.pages = 4, .max_sequences = 2, .max_batched_tokens = 512});
  const RequestId early = add(60, 190).id;
  const RequestId late = add(60, 190).id;
  while (metrics().preemptions == 0) step();
  EXPECT_TRUE(scheduler_->remove(late));  // preempted
  EXPECT_EQ(step(), (Rows{{early, 1}}));
  EXPECT_TRUE(scheduler_->remove(early));
  EXPECT_EQ(metrics().pages_used, 0);
}

TEST_F(SchedulerTest, TimesComeFromTheClock) {
  start({.pages = 8, .max_sequences = 1, .max_batched_tokens = 100});
  const Sequence& first = add(150, 50);
  const Sequence& second = add(10, 50);
  step();
  const TimePoint then = now_;
  EXPECT_EQ(first.record.first_scheduled, then);
  step();
  EXPECT_EQ(first.record.first_scheduled, then);
  EXPECT_FALSE(second.record.first_scheduled);
  scheduler_->remove(1);
  step();
  EXPECT_EQ(second.record.first_scheduled, now_);
}

}  // namespace
}  // namespace liquidgemm
