// The engine: requests in, tokens out, many sequences a step.
//
// One thread owns an engine and calls step(). A request's tokens depend on the request alone: its
// prompt, its sampling parameters and the model, never on what runs beside it, how its prompt is
// cut into chunks, whether a prefix was cached or whether it was preempted. docs/engine.md says in
// plain words what scheduler.h decides.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/scheduler.h"
#include "liquidgemm/status.h"
#include "model/backend.h"

namespace liquidgemm {

struct EngineOptions {
  std::int64_t max_sequences = 0;       // requests that run at once; 0: as the backend takes
  std::int64_t max_batched_tokens = 0;  // tokens of one step; 0: as the backend takes
  std::int64_t prompt_chunk = 0;        // of one sequence in one step; 0: the whole step
  bool prefix_caching = true;
  std::string model = {};                 // its name, part of every prefix's hash
  std::function<TimePoint()> clock = {};  // empty: the steady clock
  PrefixCache::Hash prefix_hash = {};     // empty: keyed at random
};

class Engine {
 public:
  // The backend is planned and outlives the engine; what its pages hold belongs to this engine.
  explicit Engine(Backend& backend, const EngineOptions& options = {});

  // Whether submit() would take it, by what never changes while the engine lives: any thread.
  Status check(const Request& request) const;
  // Queues a request. Errors name the field: an empty or too long prompt, a token outside the
  // vocabulary, a sampling parameter out of range, more pages than the cache has.
  Result<RequestId> submit(Request request);
  // The same for a request that check() has found good, under an id that is larger than all before
  // and with the time at which it came.
  void add(RequestId id, Request request, TimePoint arrival);
  RequestId next_id() const { return next_id_; }
  TimePoint now() const { return clock_(); }  // any thread, if the clock may be read by any
  // Frees the request's pages at once; no more updates follow. Empty: the id is unknown.
  std::optional<RequestRecord> cancel(RequestId id);

  bool idle() const { return scheduler_.idle(); }
  EngineMetrics metrics() const { return scheduler_.metrics(); }
  // Requests that run at once, at most: no more than a step has tokens or rows of logits.
  std::int64_t max_sequences() const { return scheduler_.options().max_sequences; }
  const Scheduler& scheduler() const { return scheduler_; }

  // Ends what is past its deadline, decides what runs, runs one backend step, reports what
  // happened, each sampled token in the order of the rows. Nothing to do: no updates. After an
  // error the other requests are as they were; the updates of those that ended come next time.
  Result<std::vector<Update>> step();
  // After a step that failed: ends the requests that it held with kError.
  std::vector<Update> abandon_step();

 private:
  std::int64_t longest(const Request& request) const;
  Status check_tokens(const Request& request) const;
  void end_late(TimePoint now);
  std::unique_ptr<Sequence> take_out(RequestId id);
  void build_step(const std::vector<Scheduler::Work>& work);
  void add_prompt_scores(Sequence& sequence, std::int64_t rows, std::int32_t first_row);
  void add_sample(Sequence& sequence, std::int32_t row);
  std::span<const std::uint32_t> constraint_mask(Sequence& sequence, bool early);
  void take_prompt_scores(std::vector<Update>& updates, TimePoint now);
  void end(Sequence& sequence, Update& update, TimePoint now);
  Update take_token(Sequence& sequence, const SampledToken& sampled, TimePoint now);

  Backend& backend_;
  std::function<TimePoint()> clock_;
  Scheduler scheduler_;
  RequestId next_id_ = 1;
  std::set<std::pair<TimePoint, RequestId>> deadlines_;  // of those that have one
  std::vector<Update> late_;  // that have ended so; taken by the next step that goes well

  // The step being built.
  std::vector<TokenId> step_tokens_;
  std::vector<SequenceRows> step_sequences_;
  std::vector<std::int32_t> step_logits_rows_;
  std::vector<SampleRow> step_samples_;
  std::vector<RequestId> step_held_;  // of step_sequences_
  std::vector<ScoreRow> step_scores_;
  struct Sampled {
    Sequence* sequence = nullptr;  // null: it has ended
    std::int32_t score = -1;       // of step_scores_; -1: none is wanted
  };
  std::vector<Sampled> step_sampled_;  // of each sample
  struct PromptScores {
    Sequence* sequence = nullptr;
    std::size_t first = 0;  // of step_scores_
    std::size_t count = 0;
  };
  std::vector<PromptScores> step_prompt_scores_;
};

}  // namespace liquidgemm
