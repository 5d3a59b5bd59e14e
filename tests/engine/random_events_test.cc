// A million random events against an engine with few pages: no page is leaked, freed twice or
// shared before it is full, nobody starves, and every request gets the tokens of its lone run.
#include <algorithm>
#include <map>

#include "engine/engine.h"
#include "engine/fake_backend.h"
#include "engine/fake_constraint.h"
#include "fresh_seed.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kEvents = 60'000;
constexpr int kEventsOfOneEngine = 1'500;
#else
constexpr int kEvents = 1'000'000;
constexpr int kEventsOfOneEngine = 10'000;
#endif
constexpr std::int64_t kVocabulary = 60;

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() { return splitmix64(state_++); }
  // least .. most
  std::int64_t number(std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(most - least + 1));
  }
  bool chance(double share) { return static_cast<double>(bits() >> 11) * 0x1p-53 < share; }

 private:
  std::uint64_t state_;
};

struct Expected {
  Request request;
  std::vector<TokenId> answer;
  FinishReason finish = FinishReason::kLength;
  std::vector<float> prompt_logprobs;  // of every token from the second on
  std::vector<float> logprobs;
  std::size_t seen = 0;         // tokens that came so far
  std::size_t prompt_seen = 0;  // log-probabilities of the prompt
};

// A constraint of the same kind for the request and for its lone run.
struct Grammar {
  std::uint64_t seed = 0, sparsity = 0;
  std::int64_t end_after = 0;
  TokenId end_token = 0;

  std::shared_ptr<TokenConstraint> make() const {
    return std::make_shared<FakeConstraint>(seed, sparsity, kVocabulary, end_after, end_token);
  }
};

// What the constraint and min_tokens leave of a mask.
std::vector<std::uint32_t> lone_mask(const Request& request, TokenConstraint& constraint,
                                     bool early) {
  std::vector<std::uint32_t> mask((kVocabulary + 31) / 32);
  if (!constraint.allowed(mask)) mask.assign(mask.size(), ~0u);
  if (!early) return mask;
  std::vector<std::uint32_t> rest = mask;
  for (const TokenId stop : request.stop_tokens) {
    rest[static_cast<std::size_t>(stop) / 32] &= ~(1u << (stop % 32));
  }
  const bool some = std::any_of(rest.begin(), rest.end(), [](auto word) { return word != 0; });
  return some ? rest : mask;
}

// What the fake backend would answer to the request alone, without any page.
Expected lone_run(Request request, std::int64_t max_position, const Grammar* grammar) {
  Expected expected;
  const auto constraint = grammar != nullptr ? grammar->make() : nullptr;
  const bool penalty = request.sampling.repetition_penalty != 1.0f;
  std::map<TokenId, TokenCount> counts;
  std::uint64_t digest = 0;
  std::int64_t position = 0;
  for (const TokenId token : request.prompt) {
    if (request.prompt_logprobs >= 0 && position > 0) {
      expected.prompt_logprobs.push_back(FakeBackend::logprob(digest, token));
    }
    ++position;
    digest = FakeBackend::digest(digest, token);
    counts[token].token = token;
    counts[token].in_prompt = true;
  }
  while (true) {
    std::vector<TokenCount> list;
    if (penalty) {
      for (const auto& [token, count] : counts) list.push_back(count);
    }
    const TokenId first = FakeBackend::next_token(
        digest, FakeBackend::counts_digest(list) + FakeBackend::bias_digest(request.logit_bias),
        request.sampling.seed, static_cast<std::uint64_t>(position), kVocabulary);
    const bool early = std::ssize(expected.answer) < request.min_tokens;
    std::vector<TokenBias> bias;
    for (const TokenId stop : request.stop_tokens) {
      if (early && !constraint) bias.push_back({stop, -INFINITY});
    }
    std::vector<std::uint32_t> mask;
    if (constraint) mask = lone_mask(request, *constraint, early);
    const TokenId token = FakeBackend::first_allowed(first, bias, mask, kVocabulary);
    if (token < 0 || (constraint && !constraint->accept(token))) {
      expected.finish = FinishReason::kError;
      break;
    }
    if (std::count(request.stop_tokens.begin(), request.stop_tokens.end(), token) > 0) {
      expected.finish = FinishReason::kStop;
      break;
    }
    expected.answer.push_back(token);
    expected.logprobs.push_back(FakeBackend::logprob(digest, token));
    counts[token].token = token;
    ++counts[token].in_answer;
    digest = FakeBackend::digest(digest, token);
    ++position;
    if (static_cast<std::int64_t>(expected.answer.size()) >= request.max_tokens) break;
    if (position > max_position) break;
  }
  expected.request = std::move(request);
  return expected;
}

// What all engines of a run saw together, so that a run that tests nothing fails.
struct Totals {
  std::int64_t events = 0, finished = 0, cancelled = 0, refused = 0;
  std::int64_t preemptions = 0, hits = 0, shared = 0, evictions = 0;
  std::int64_t logprobs = 0, prompt_logprobs = 0, constrained = 0, errors = 0;
  std::int64_t scored_and_preempted = 0, late = 0;
};

class RandomRun {
 public:
  RandomRun(std::uint64_t seed, Totals& totals)
      : random_(seed), totals_(totals), limits_(draw_limits()), backend_(limits_, kVocabulary) {
    EngineOptions options;
    options.max_batched_tokens = random_.chance(0.5) ? random_.number(1, limits_.max_rows) : 0;
    options.prompt_chunk = random_.chance(0.5) ? random_.number(1, 80) : 0;
    options.prefix_caching = random_.chance(0.8);
    options.clock = [this] { return now_; };
    long_answers_ = random_.chance(0.5);
    const std::int64_t hashes = std::int64_t{1} << random_.number(0, 6);
    if (random_.chance(0.3)) {  // a hash that collides all the time
      options.prefix_hash = [hashes](std::uint64_t parent, std::span<const std::byte> added) {
        std::uint64_t sum = parent;
        for (const std::byte byte : added) sum = splitmix64(sum ^ std::uint64_t(byte));
        return sum % static_cast<std::uint64_t>(hashes);
      };
    }
    engine_.emplace(backend_, options);
    // Of the same few pages in different orders, so that equal pages come after unequal ones.
    const std::array blocks{random_text(kPageTokens), random_text(kPageTokens)};
    for (std::vector<TokenId>& text : texts_) {
      while (std::ssize(text) < limits_.max_position) {
        const std::vector<TokenId>& block = blocks[random_.bits() % 2];
        text.insert(text.end(), block.begin(), block.end());
      }
      text.resize(static_cast<std::size_t>(limits_.max_position));
    }
  }

  void events(int count) {
    // Now and then many come at once, and now and then nobody does.
    double arrivals = 0.1;
    for (int i = 0; i < count && !failed(); ++i, ++totals_.events) {
      if (i % 500 == 0) arrivals = 0.3 * static_cast<double>(random_.number(0, 10)) / 10.0;
      now_ += std::chrono::microseconds(random_.number(0, 50));
      if (random_.chance(arrivals) && live_.size() < 40) {
        submit();
      } else if (random_.chance(0.006)) {
        cancel();
      } else {
        step();
      }
      audit();
    }
    // All that is left comes to an end: at most a step a token, were they to run one by one.
    std::int64_t most = 1;
    for (const auto& [id, expected] : live_) {
      most +=
          static_cast<std::int64_t>(expected.request.prompt.size() + expected.answer.size()) + 1;
    }
    while (!engine_->idle() && !failed()) {
      ASSERT_GE(--most, 0) << "requests starve";
      step();
      audit();
    }
    if (failed()) return;
    ASSERT_TRUE(live_.empty());
    const EngineMetrics metrics = engine_->metrics();
    ASSERT_EQ(metrics.pages_used, 0);
    ASSERT_EQ(metrics.pages_free + metrics.pages_cached, limits_.pages);
    totals_.preemptions += metrics.preemptions;
    totals_.hits += metrics.prefix_hit_tokens;
  }

 private:
  static bool failed() { return ::testing::Test::HasFatalFailure(); }

  BackendLimits draw_limits() {
    BackendLimits limits;
    limits.max_rows = random_.chance(0.3) ? random_.number(1, 20) : random_.number(20, 300);
    limits.max_sequences = random_.number(1, 16);
    limits.max_logits_rows = random_.chance(0.2) ? random_.number(1, 16) : 16;
    limits.max_position = random_.number(70, 400);
    limits.pages = random_.number(2, 20);
    return limits;
  }

  std::vector<TokenId> random_text(std::int64_t tokens) {
    std::vector<TokenId> text(static_cast<std::size_t>(tokens));
    for (TokenId& token : text) token = static_cast<TokenId>(random_.number(0, kVocabulary - 1));
    return text;
  }

  void submit() {
    Request request;
    // The beginning of one of a few texts, or of what somebody got as an answer, then words of
    // its own: many requests begin alike.
    const std::vector<TokenId>& text = random_.chance(0.3) && !last_.empty()
                                           ? last_
                                           : texts_[static_cast<std::size_t>(random_.number(0, 3))];
    request.prompt = text;
    if (random_.chance(0.8)) {
      request.prompt.resize(static_cast<std::size_t>(random_.number(
          1, random_.chance(0.5) ? std::min<std::int64_t>(40, std::ssize(request.prompt))
                                 : std::ssize(request.prompt))));
    }
    const auto own = random_text(random_.chance(0.5) ? random_.number(1, 20) : 0);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.max_tokens =
        long_answers_ || random_.chance(0.3) ? random_.number(1, 300) : random_.number(1, 40);
    request.sampling.seed = random_.bits() % 4;
    request.sampling.repetition_penalty = random_.chance(0.3) ? 1.5f : 1.0f;
    if (random_.chance(long_answers_ ? 0.02 : 0.1)) {
      request.stop_tokens.push_back(static_cast<TokenId>(random_.number(0, kVocabulary - 1)));
    }
    request.cache_salt =
        std::array{"", "", "a", "b"}[static_cast<std::size_t>(random_.number(0, 3))];

    if (random_.chance(0.2)) request.logprobs = static_cast<std::int32_t>(random_.number(0, 20));
    if (random_.chance(0.15)) {
      request.prompt_logprobs = static_cast<std::int32_t>(random_.number(0, 3));
    }
    if (random_.chance(0.2)) request.min_tokens = random_.number(0, request.max_tokens);
    if (random_.chance(0.2)) {
      request.logit_bias = {{static_cast<TokenId>(random_.number(0, kVocabulary - 1)), 3.0f}};
    }
    if (random_.chance(0.1)) {
      request.deadline = now_ + std::chrono::microseconds(random_.number(0, 5000));
    }
    std::optional<Grammar> grammar;
    if (random_.chance(long_answers_ ? 0.02 : 0.2)) {
      grammar = Grammar{.seed = random_.bits(),
                        .sparsity = static_cast<std::uint64_t>(random_.number(0, 20)),
                        .end_after = random_.number(1, 100),
                        .end_token = static_cast<TokenId>(random_.number(0, kVocabulary - 1))};
      if (random_.chance(0.8)) request.stop_tokens.push_back(grammar->end_token);
      request.constraint = grammar->make();
    }

    const auto prompt = static_cast<std::int64_t>(request.prompt.size());
    const std::int64_t longest = std::min(prompt + request.max_tokens - 1, limits_.max_position);
    const bool fits = prompt <= limits_.max_position && pages_for(longest) <= limits_.pages;
    const auto id = engine_->submit(request);
    ASSERT_EQ(id.ok(), fits) << id.status().to_string();
    if (!fits) {
      ++totals_.refused;
      return;
    }
    live_.emplace(
        *id, lone_run(std::move(request), limits_.max_position, grammar ? &*grammar : nullptr));
  }

  void cancel() {
    if (live_.empty()) {
      ASSERT_FALSE(engine_->cancel(1));
      return;
    }
    const auto chosen =
        std::next(live_.begin(), random_.number(0, static_cast<std::int64_t>(live_.size()) - 1));
    const auto record = engine_->cancel(chosen->first);
    ASSERT_TRUE(record && record->finished == now_);
    ASSERT_EQ(record->answer_tokens, static_cast<std::int64_t>(chosen->second.seen));
    ASSERT_FALSE(engine_->cancel(chosen->first));
    live_.erase(chosen);
    ++totals_.cancelled;
  }

  struct Progress {
    std::int64_t length = 0, computed = 0;
    bool lacks_one = false;
  };

  void step() {
    const Scheduler& scheduler = engine_->scheduler();
    std::map<RequestId, Progress> before;
    for (const Sequence* sequence : scheduler.running()) {
      before[sequence->id] = {sequence->length(), sequence->computed, sequence->missing() == 1};
    }
    // More pages than a step can fill.
    const bool plenty =
        scheduler.pool().available() >= pages_for(scheduler.options().max_batched_tokens) +
                                            static_cast<std::int64_t>(before.size());
    // Of those that this step does not end because they are late.
    const auto first = std::find_if(live_.begin(), live_.end(),
                                    [&](const auto& one) { return !is_late(one.second); });
    const bool idle = first == live_.end();
    const RequestId earliest = idle ? 0 : first->first;
    const std::int64_t rows = backend_.rows();
    const EngineMetrics metrics = engine_->metrics();
    const auto updates = engine_->step();
    ASSERT_TRUE(updates.ok()) << updates.status().to_string();
    ASSERT_EQ(backend_.error(), "");
    ASSERT_EQ(engine_->metrics().steps, metrics.steps + (idle ? 0 : 1));
    ASSERT_LE(backend_.rows() - rows, scheduler.options().max_batched_tokens);

    std::map<RequestId, int> tokens;
    for (const Update& update : *updates) {
      ASSERT_EQ(++tokens[update.request], 1);
      ASSERT_NO_FATAL_FAILURE(take(update));
    }
    for (const auto& [id, expected] : live_) ASSERT_FALSE(is_late(expected)) << id;
    if (idle) return;
    // The earliest request always moves on. Where pages are not short, so do all that lack one
    // token and the earliest prompt.
    bool first_prompt = true;
    bool earliest_moved = tokens.count(earliest) > 0;
    for (const Sequence* sequence : scheduler.running()) {
      const auto old = before.find(sequence->id);
      const bool moved = old == before.end() || sequence->length() > old->second.length ||
                         sequence->computed > old->second.computed;
      if (sequence->id == earliest) earliest_moved = earliest_moved || moved;
      if (old == before.end()) continue;
      if (old->second.lacks_one || first_prompt) {
        ASSERT_TRUE(moved || !plenty) << "request " << sequence->id << " starves";
      }
      if (!old->second.lacks_one) first_prompt = false;
    }
    ASSERT_TRUE(earliest_moved) << "request " << earliest << " starves";
  }

  bool is_late(const Expected& expected) const {
    return expected.request.deadline && *expected.request.deadline <= now_;
  }

  void take(const Update& update) {
    const auto found = live_.find(update.request);
    ASSERT_NE(found, live_.end()) << "an update of a request that is gone";
    Expected& expected = found->second;
    ASSERT_EQ(update.finish == FinishReason::kTimeout, is_late(expected));
    if (update.finish == FinishReason::kTimeout) {
      ASSERT_EQ(update.token, -1);
      ASSERT_TRUE(update.record && update.record->finished == now_);
      ASSERT_EQ(update.record->answer_tokens, static_cast<std::int64_t>(expected.seen));
      live_.erase(found);
      ++totals_.late;
      return;
    }
    ASSERT_NO_FATAL_FAILURE(take_logprobs(update, expected));
    if (update.token >= 0) {
      ASSERT_LT(expected.seen, expected.answer.size());
      ASSERT_EQ(update.token, expected.answer[expected.seen++]) << "request " << update.request;
    }
    if (update.finish == FinishReason::kNone) return;
    ASSERT_EQ(update.finish, expected.finish);
    ASSERT_EQ(expected.seen, expected.answer.size());
    ASSERT_TRUE(update.record);
    const RequestRecord& record = *update.record;
    ASSERT_EQ(record.answer_tokens, static_cast<std::int64_t>(expected.seen));
    ASSERT_EQ(record.prompt_tokens, static_cast<std::int64_t>(expected.request.prompt.size()));
    ASSERT_LT(record.cached_tokens, record.prompt_tokens);
    ASSERT_TRUE(record.first_scheduled && record.finished == now_);
    ASSERT_LE(record.arrival, *record.first_scheduled);
    ASSERT_LE(*record.first_scheduled, record.first_token.value_or(now_));
    last_ = expected.request.prompt;
    last_.insert(last_.end(), expected.answer.begin(), expected.answer.end());
    if (expected.finish == FinishReason::kError) ++totals_.errors;
    if (expected.request.prompt_logprobs >= 0 && record.preemptions > 0) {
      ++totals_.scored_and_preempted;
    }
    if (expected.request.constraint) ++totals_.constrained;
    live_.erase(found);
    ++totals_.finished;
  }

  void take_logprobs(const Update& update, Expected& expected) {
    const Request& request = expected.request;
    for (const PositionLogprobs& position : update.prompt_logprobs) {
      ASSERT_LT(expected.prompt_seen, expected.prompt_logprobs.size());
      ASSERT_EQ(position.chosen.logprob, expected.prompt_logprobs[expected.prompt_seen++]);
      ASSERT_EQ(position.chosen.token, request.prompt[expected.prompt_seen]);
      ASSERT_EQ(std::ssize(position.top), request.prompt_logprobs);
      ++totals_.prompt_logprobs;
    }
    ASSERT_EQ(expected.prompt_seen, expected.prompt_logprobs.size()) << "with the first update";
    ASSERT_EQ(update.logprobs.has_value(), update.token >= 0 && request.logprobs >= 0);
    if (!update.logprobs) return;
    ASSERT_EQ(update.logprobs->chosen.token, update.token);
    ASSERT_EQ(update.logprobs->chosen.logprob, expected.logprobs[expected.seen]);
    ASSERT_EQ(std::ssize(update.logprobs->top), request.logprobs);
    ++totals_.logprobs;
  }

  // Every page is held by exactly the sequences that have it in their tables.
  void audit() {
    if (failed()) return;
    const Scheduler& scheduler = engine_->scheduler();
    const PagePool& pool = scheduler.pool();
    std::vector<const Sequence*> holder(static_cast<std::size_t>(limits_.pages), nullptr);
    std::vector<std::int32_t> holders(static_cast<std::size_t>(limits_.pages), 0);
    RequestId last = 0;
    for (const Sequence* sequence : scheduler.running()) {
      ASSERT_GT(sequence->id, last) << "not in order of arrival";
      last = sequence->id;
      ASSERT_LE(sequence->computed,
                kPageTokens * static_cast<std::int64_t>(sequence->pages.size()));
      for (std::size_t i = 0; i < sequence->pages.size(); ++i) {
        const auto page = static_cast<std::size_t>(sequence->pages[i]);
        const bool full = sequence->computed >= kPageTokens * static_cast<std::int64_t>(i + 1);
        if (holders[page]++ > 0) {
          const Sequence& other = *holder[page];
          ASSERT_TRUE(full) << "a page is shared that is not full";
          ASSERT_EQ(other.request.cache_salt, sequence->request.cache_salt);
          const auto begin = static_cast<long>(i) * kPageTokens;
          ASSERT_TRUE(std::equal(sequence->tokens.begin(),
                                 sequence->tokens.begin() + begin + kPageTokens,
                                 other.tokens.begin()));
          ++totals_.shared;
        }
        holder[page] = sequence;
      }
    }
    for (const Sequence* sequence : scheduler.waiting()) {
      ASSERT_GT(sequence->id, last) << "not in order of arrival";
      last = sequence->id;
      ASSERT_TRUE(sequence->pages.empty());
    }
    std::int64_t used = 0, cached = 0;
    for (std::int32_t page = 0; page < limits_.pages; ++page) {
      ASSERT_EQ(pool.holders(page), holders[static_cast<std::size_t>(page)]);
      used += pool.holders(page) > 0 ? 1 : 0;
      cached += pool.is_cached(page) ? 1 : 0;
      if (pool.holders(page) == 0 && !pool.is_cached(page)) backend_.wipe(page);
    }
    ASSERT_EQ(pool.used(), used);
    ASSERT_EQ(pool.cached(), cached);
    ASSERT_EQ(pool.free(), limits_.pages - used - cached);
    ASSERT_GE(scheduler.cache().size(), cached);
    if (!scheduler.options().prefix_caching) {
      ASSERT_EQ(scheduler.cache().size(), 0);
    }
    totals_.evictions += std::max<std::int64_t>(0, cache_size_ - scheduler.cache().size());
    cache_size_ = scheduler.cache().size();
    ASSERT_LE(static_cast<std::int64_t>(scheduler.running().size()),
              scheduler.options().max_sequences);
    ASSERT_EQ(scheduler.running().size() + scheduler.waiting().size(), live_.size());
  }

  Random random_;
  Totals& totals_;
  BackendLimits limits_;
  bool long_answers_ = false;  // to short prompts: what preemption comes from
  FakeBackend backend_;
  TimePoint now_{};
  std::optional<Engine> engine_;
  std::array<std::vector<TokenId>, 4> texts_;
  std::vector<TokenId> last_;
  std::map<RequestId, Expected> live_;
  std::int64_t cache_size_ = 0;
};

TEST(Engine, AMillionRandomEventsLeakNothingAndChangeNoToken) {
  std::uint64_t seed = testing::fresh_seed();
  Totals totals;
  while (totals.events < kEvents) {
    SCOPED_TRACE("engine of seed " + std::to_string(seed));
    RandomRun run(seed++, totals);
    run.events(kEventsOfOneEngine);
    if (HasFatalFailure()) return;
  }
  std::printf(
      "%lld events: %lld requests ended, %lld cancelled, %lld late, %lld refused; %lld "
      "preemptions, %lld prefix tokens found, %lld looks at a shared page, %lld cached pages "
      "evicted\n",
      static_cast<long long>(totals.events), static_cast<long long>(totals.finished),
      static_cast<long long>(totals.cancelled), static_cast<long long>(totals.late),
      static_cast<long long>(totals.refused), static_cast<long long>(totals.preemptions),
      static_cast<long long>(totals.hits), static_cast<long long>(totals.shared),
      static_cast<long long>(totals.evictions));
  for (const std::int64_t seen :
       {totals.finished, totals.cancelled, totals.refused, totals.preemptions, totals.hits,
        totals.shared, totals.evictions, totals.logprobs, totals.prompt_logprobs,
        totals.constrained, totals.errors, totals.scored_and_preempted, totals.late}) {
    EXPECT_GT(seen, 0);
  }
}

}  // namespace
}  // namespace liquidgemm
