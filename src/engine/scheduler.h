// Which sequences run in the next step, with how many tokens, and on which pages.
//
// Pure decisions: no backend is called and no clock is read here. Everything goes by arrival:
//
//   * Running sequences that lack one token get it in every step. What the token budget has left
//     goes to prompts, the earliest first; there is always some, because no more sequences run
//     than a step has tokens.
//   * Pages are handed out as sequences grow. When none is left, the latest arrival gives up all of
//     its pages and goes back to the head of the queue, tokens and all (preemption). A sequence
//     takes pages from later ones only, so the earliest one always moves on.
//   * Waiting sequences start in order of arrival, and only when the pages for all of their tokens
//     are there beside what the running ones are about to need.
//   * Every sequence of a step may have one row of logits. Those left over go to prompts whose
//     log-probabilities are wanted, a row for each token; the chunks of these are cut to fit.
//   * Full pages are shared by sequences that begin alike (prefix_cache.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/page_pool.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"

namespace liquidgemm {

struct SchedulerOptions {
  std::int64_t pages = 0;
  std::int64_t max_sequences = 1;       // that run at once; at most max_batched_tokens
  std::int64_t max_batched_tokens = 1;  // tokens of one step
  std::int64_t max_logits_rows = 0;     // of one step; no less than max_sequences
  std::int64_t prompt_chunk = 0;        // of one sequence in one step; 0: the whole step
  bool prefix_caching = true;
  std::string scope = {};            // see PrefixCache
  PrefixCache::Hash page_hash = {};  // empty: random_hash()
};

class Scheduler {
 public:
  explicit Scheduler(SchedulerOptions options);

  const SchedulerOptions& options() const { return options_; }

  // Queues a sequence. Its id is larger than those before; pages_for(longest) pages exist.
  void add(std::unique_ptr<Sequence> sequence);
  // Null: unknown.
  Sequence* find(RequestId id);
  // Takes a sequence out, wherever it is; its pages are free at once. Null: unknown.
  std::unique_ptr<Sequence> remove(RequestId id);

  // Part of a step: the tokens computed .. computed + rows - 1 of the sequence.
  struct Work {
    Sequence* sequence = nullptr;
    std::int64_t rows = 0;
  };
  // Decides on the next step; in order of arrival, empty only when there is nothing to do.
  // Sequences have pages for their rows. Unless complete() follows, nothing counts as computed.
  const std::vector<Work>& schedule(TimePoint now);
  // The step has run.
  void complete();

  bool idle() const { return sequences_.empty(); }
  const std::vector<Sequence*>& running() const { return running_; }  // in order of arrival
  const std::deque<Sequence*>& waiting() const { return waiting_; }   // in order of arrival
  const PagePool& pool() const { return pool_; }
  const PrefixCache& cache() const { return cache_; }
  EngineMetrics metrics() const;

 private:
  PrefixCache::Key page_key(Sequence& sequence, std::int64_t index);
  void take_cached_pages(Sequence& sequence);
  std::int64_t take_pages(Sequence& sequence, std::int64_t rows);
  std::int64_t take_prompt_rows(Sequence& sequence);
  void link_full_pages(Sequence& sequence);
  void drop_pages(Sequence& sequence);
  void preempt_latest();
  void schedule_running();
  void admit(TimePoint now);
  void add_work(Sequence& sequence, std::int64_t rows);

  SchedulerOptions options_;
  PagePool pool_;
  PrefixCache cache_;
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> running_;
  std::deque<Sequence*> waiting_;
  std::vector<Work> work_;
  std::int64_t prompt_rows_ = 0;  // left in the step being decided
  std::int64_t spare_logits_ = 0;
  std::int64_t preemptions_ = 0;
  std::int64_t prefix_query_tokens_ = 0;
  std::int64_t prefix_hit_tokens_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace liquidgemm
