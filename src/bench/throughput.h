// How much an engine gets done: many requests that are all there at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "liquidgemm/status.h"
#include "model/backend.h"

namespace liquidgemm::bench {

struct ThroughputCell {
  std::int64_t prompts = 0;
  std::int64_t input_len = 128;
  std::int64_t output_len = 64;
  double range_ratio = 0.0;  // in [0, 1): lengths are uniform within len * (1 -+ ratio)
  std::uint64_t seed = 0;
  std::int64_t max_sequences = 16;  // that run at once
  std::int64_t prefix_len = 0;      // tokens before each prompt, the same for all
  bool prefix_caching = true;
};

struct RequestLengths {
  std::int64_t input = 0;  // the common prefix is part of it
  std::int64_t output = 0;
};
// Of every request; they depend on the cell alone. At least one token each.
std::vector<RequestLengths> request_lengths(const ThroughputCell& cell);
// The longest that a request may be.
RequestLengths longest_request(const ThroughputCell& cell);

struct ThroughputRow {
  ThroughputCell cell;
  double seconds = 0.0;
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t prefix_query_tokens = 0;
  std::int64_t prefix_hit_tokens = 0;

  // Of the prompt tokens, the share that was found in the cache.
  double prefix_hit_rate() const {
    if (prefix_query_tokens == 0) return 0.0;
    return static_cast<double>(prefix_hit_tokens) / static_cast<double>(prefix_query_tokens);
  }
  double requests_per_second() const { return static_cast<double>(cell.prompts) / seconds; }
  double output_tokens_per_second() const { return static_cast<double>(output_tokens) / seconds; }
  double total_tokens_per_second() const {
    return static_cast<double>(prompt_tokens + output_tokens) / seconds;
  }
};

// Tokens that a trial request answers, at most.
inline constexpr std::int64_t kTrialTokens = 5;
// Requests that take about that long, guessed from one that runs alone: at least 2, at most 512.
// It is also what warms the backend up.
Result<std::int64_t> prompts_for(double seconds, Backend& backend, const ThroughputCell& cell,
                                 const std::atomic<bool>& interrupt);

// Runs requests of other lengths, so that steps of every size up to the cell's most at once have
// run before anything is measured: a GPU loads and records what such a step needs when it comes
// first.
Status run_every_batch(Backend& backend, const ThroughputCell& cell,
                       const std::atomic<bool>& interrupt);

// Greedy, to the wanted length: no token ends an answer. `advance` is called with the requests that
// are done.
Result<ThroughputRow> measure_throughput(Backend& backend, const ThroughputCell& cell,
                                         const std::atomic<bool>& interrupt,
                                         const std::function<void(std::int64_t)>& advance);

}  // namespace liquidgemm::bench
