// How long a user waits: for the first token of a prompt, then for each of the next ones.
//
// A repetition submits `batch` requests at once to an engine of their own. The prompt phase ends
// when every request has its first token, the generation phase after output_len - 1 more steps, in
// each of which every request gets one token. Requests of a batch whose prompt is done early go on
// generating beside the prompts of the others, as an engine does it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "bench/goal_shapes.h"
#include "bench/timed_backend.h"
#include "engine/engine.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct LatencyCell {
  std::int64_t input_len = 512;
  std::int64_t output_len = 64;  // at least 2: the first token belongs to the prompt
  std::int64_t batch = 1;
};

// Tokens of one sequence, and KV pages, that a cell needs of a backend with so many rows a step.
std::int64_t longest_sequence(const LatencyCell& cell, std::int64_t max_rows);
inline constexpr std::int64_t kMostBatch = 1024;

// One repetition, a phase at a time.
class LatencyRun {
 public:
  // The backend takes the cell: batch sequences of longest_sequence() tokens.
  LatencyRun(Backend& backend, const LatencyCell& cell, std::uint64_t seed,
             const std::atomic<bool>& interrupt);

  Status prompt();
  Status generate();

  double prompt_seconds() const { return prompt_seconds_; }
  double generation_seconds() const { return generation_seconds_; }
  // Tokens that requests got beyond their first while others still had prompts.
  std::int64_t early_tokens() const { return early_tokens_; }
  // Tokens whose keys and values a generation step reads, of all requests, on average.
  double context_tokens() const;

 private:
  // One step; the number of requests that got their first token in it.
  Result<std::int64_t> step(std::int64_t& tokens);

  Engine engine_;
  LatencyCell cell_;
  const std::atomic<bool>& interrupt_;
  Status submitted_;
  std::vector<std::int64_t> answered_;  // by request, in order
  std::vector<RequestId> ids_;
  double prompt_seconds_ = 0.0;
  double generation_seconds_ = 0.0;
  std::int64_t early_tokens_ = 0;
};

struct LatencyOptions {
  int iterations = 5;
  // No repetition begins that would probably end later than this after the first began; the first
  // one always runs. 0: all repetitions.
  double budget_seconds = 0.0;
  bool breakdown = false;  // one repetition more, in which operations are timed
  // Of the GPU that the model is on: rows then have a floor.
  std::optional<Ceilings> ceilings = {};
  bool half_weights = false;  // the model runs with FP16 weights: for the floor
  std::uint64_t seed = 0;
};

// Where the time of the prompt phase and of one generation step goes.
struct Breakdown {
  OperationSeconds prompt{};
  OperationSeconds step{};
  double prompt_seconds = 0.0;  // whole: with what the engine does between the operations
  double step_seconds = 0.0;
  bool device_clock = false;  // the operations were timed by the device
};

struct LatencyRow {
  LatencyCell cell;
  int iterations = 0;
  double prompt_seconds = 0.0;  // medians
  double prompt_spread = 0.0;   // (largest - smallest) / median
  double step_seconds = 0.0;    // of one generation step
  double step_spread = 0.0;
  double prompt_operations = 0.0;  // of the linear layers in the prompt phase
  double step_operations = 0.0;
  double step_bytes = 0.0;                // packed weights, keys and values that a step reads
  double context_tokens = 0.0;            // of all requests, on average over the steps
  std::optional<OperationSeconds> floor;  // of a step, on a GPU
  std::optional<Breakdown> breakdown;

  double prompt_tokens_per_second() const;
  double generation_tokens_per_second() const;
};

// After a short repetition that is not counted. `advance` is called after each repetition.
Result<LatencyRow> measure_latency(Backend& backend, const LatencyCell& cell,
                                   const LatencyOptions& options,
                                   const std::atomic<bool>& interrupt,
                                   const std::function<void()>& advance);

}  // namespace liquidgemm::bench
