#include "bench/throughput.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/splitmix64.h"
#include "base/status_macros.h"
#include "bench/latency.h"
#include "bench/random_prompt.h"
#include "engine/engine.h"

namespace liquidgemm::bench {
namespace {

struct Range {
  std::int64_t least = 1;
  std::int64_t most = 1;
};

Range range(std::int64_t length, double ratio) {
  const auto away = static_cast<std::int64_t>(std::floor(static_cast<double>(length) * ratio));
  return {std::max<std::int64_t>(1, length - away), length + away};
}

std::int64_t draw(const Range& range, std::uint64_t bits) {
  const auto choices = static_cast<std::uint64_t>(range.most - range.least + 1);
  return range.least + static_cast<std::int64_t>(bits % choices);
}

}  // namespace

std::vector<RequestLengths> request_lengths(const ThroughputCell& cell) {
  const Range input = range(cell.input_len, cell.range_ratio);
  const Range output = range(cell.output_len, cell.range_ratio);
  const std::uint64_t key = splitmix64(~cell.seed);
  std::vector<RequestLengths> lengths(static_cast<std::size_t>(cell.prompts));
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = {cell.prefix_len + draw(input, splitmix64(key + 2 * i)),
                  draw(output, splitmix64(key + 2 * i + 1))};
  }
  return lengths;
}

RequestLengths longest_request(const ThroughputCell& cell) {
  return {cell.prefix_len + range(cell.input_len, cell.range_ratio).most,
          range(cell.output_len, cell.range_ratio).most};
}

Result<std::int64_t> prompts_for(double seconds, Backend& backend, const ThroughputCell& cell,
                                 const std::atomic<bool>& interrupt) {
  constexpr std::int64_t kMost = 512;
  constexpr double kGain = 4.0;  // of a full batch's generation over one request's, about
  // What all prompts have in common is computed once where prefixes are cached.
  const LatencyCell alone{cell.input_len + (cell.prefix_caching ? 0 : cell.prefix_len),
                          std::clamp<std::int64_t>(cell.output_len, 2, kTrialTokens), 1};
  LatencyRun run(backend, alone, cell.seed, interrupt);
  LIQUIDGEMM_RETURN_IF_ERROR(run.prompt());
  LIQUIDGEMM_RETURN_IF_ERROR(run.generate());
  const double gain = std::min(kGain, static_cast<double>(cell.max_sequences));
  const double request = run.prompt_seconds() + run.generation_seconds() /
                                                    static_cast<double>(alone.output_len - 1) *
                                                    static_cast<double>(cell.output_len) / gain;
  return static_cast<std::int64_t>(std::clamp(seconds / request, 2.0, static_cast<double>(kMost)));
}

Status run_every_batch(Backend& backend, const ThroughputCell& cell,
                       const std::atomic<bool>& interrupt) {
  // All begin together; they end one by one.
  constexpr std::int64_t kInput = 8, kOutput = 64;
  ThroughputCell short_cell = cell;
  short_cell.prompts = cell.max_sequences;
  short_cell.prefix_len = 0;
  short_cell.input_len = std::min(cell.input_len, kInput);
  short_cell.output_len = std::min(cell.output_len, kOutput);
  short_cell.range_ratio = 0.0;
  LIQUIDGEMM_RETURN_IF_ERROR(
      measure_throughput(backend, short_cell, interrupt, [](std::int64_t) {}).status());
  short_cell.output_len = std::max<std::int64_t>(1, short_cell.output_len / 2);
  short_cell.range_ratio = 0.99;
  return measure_throughput(backend, short_cell, interrupt, [](std::int64_t) {}).status();
}

Result<ThroughputRow> measure_throughput(Backend& backend, const ThroughputCell& cell,
                                         const std::atomic<bool>& interrupt,
                                         const std::function<void(std::int64_t)>& advance) {
  ThroughputRow row;
  row.cell = cell;
  Engine engine(backend,
                {.max_sequences = cell.max_sequences, .prefix_caching = cell.prefix_caching});
  const std::int64_t vocabulary = backend.graph().config.vocab_size;
  const std::vector<TokenId> prefix =
      random_prompt(cell.prefix_len, vocabulary, splitmix64(~cell.seed));
  std::uint64_t seed = cell.seed;
  for (const RequestLengths& lengths : request_lengths(cell)) {
    Request request;
    request.prompt = prefix;
    const auto own = random_prompt(lengths.input - cell.prefix_len, vocabulary, seed++);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.sampling.temperature = 0.0f;
    request.max_tokens = lengths.output;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const RequestId id, engine.submit(std::move(request)));
    (void)id;
    row.prompt_tokens += lengths.input;
  }
  const auto begin = std::chrono::steady_clock::now();
  while (!engine.idle()) {
    if (interrupt) return cancelled("interrupted");
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<Update> updates, engine.step());
    ++row.steps;
    std::int64_t done = 0;
    for (const Update& update : updates) {
      if (update.finish == FinishReason::kError) {
        return corrupt("the model's logits are not finite; nothing was measured");
      }
      row.output_tokens += update.token >= 0 ? 1 : 0;
      done += update.finish == FinishReason::kNone ? 0 : 1;
    }
    if (done > 0) advance(done);
  }
  row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const EngineMetrics metrics = engine.metrics();
  row.preemptions = metrics.preemptions;
  row.prefix_query_tokens = metrics.prefix_query_tokens;
  row.prefix_hit_tokens = metrics.prefix_hit_tokens;
  return row;
}

}  // namespace liquidgemm::bench
