#include "bench/latency.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/median.h"
#include "base/status_macros.h"
#include "bench/model_cost.h"
#include "bench/random_prompt.h"
#include "bench/step_floor.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Of the repetition that is not counted.
constexpr std::int64_t kWarmUpInput = 32;
constexpr std::int64_t kWarmUpOutput = 4;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double spread(const std::vector<double>& times) {
  const auto [least, most] = std::minmax_element(times.begin(), times.end());
  return (*most - *least) / median(times);
}

// Steps of the prompt phase at most: each takes max_rows rows, of which a request that is done with
// its prompt has one.
std::int64_t most_prompt_steps(const LatencyCell& cell, std::int64_t max_rows) {
  const std::int64_t rows = std::max<std::int64_t>(1, max_rows - cell.batch);
  return (cell.batch * cell.input_len + rows - 1) / rows + 1;
}

// Tokens asked for: enough that no request ends before the generation phase does.
std::int64_t asked_tokens(const LatencyCell& cell, std::int64_t max_rows) {
  if (cell.batch == 1) return cell.output_len;
  return cell.output_len + most_prompt_steps(cell, max_rows);
}

}  // namespace

std::int64_t longest_sequence(const LatencyCell& cell, std::int64_t max_rows) {
  return cell.input_len + asked_tokens(cell, max_rows);
}

LatencyRun::LatencyRun(Backend& backend, const LatencyCell& cell, std::uint64_t seed,
                       const std::atomic<bool>& interrupt)
    : engine_(backend), cell_(cell), interrupt_(interrupt) {
  for (std::int64_t i = 0; i < cell.batch; ++i) {
    Request request;
    request.prompt = random_prompt(cell.input_len, backend.graph().config.vocab_size,
                                   seed + static_cast<std::uint64_t>(i));
    request.sampling.temperature = 0.0f;
    request.max_tokens = asked_tokens(cell, backend.limits().max_rows);
    const Result<RequestId> id = engine_.submit(std::move(request));
    submitted_ = id.status();
    if (!submitted_.ok()) return;
    ids_.push_back(*id);
  }
  answered_.resize(ids_.size());
}

Result<std::int64_t> LatencyRun::step(std::int64_t& tokens) {
  if (interrupt_) return cancelled("interrupted");
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<Update> updates, engine_.step());
  std::int64_t first_tokens = 0;
  for (const Update& update : updates) {
    if (update.finish == FinishReason::kError) {
      return corrupt("the model's logits are not finite; nothing was measured");
    }
    const auto at = std::find(ids_.begin(), ids_.end(), update.request) - ids_.begin();
    first_tokens += answered_[static_cast<std::size_t>(at)]++ == 0 ? 1 : 0;
  }
  tokens = static_cast<std::int64_t>(updates.size());
  return first_tokens;
}

Status LatencyRun::prompt() {
  LIQUIDGEMM_RETURN_IF_ERROR(submitted_);
  const auto begin = Clock::now();
  std::int64_t waiting = cell_.batch;
  while (waiting > 0) {
    std::int64_t tokens = 0;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t first_tokens, step(tokens));
    waiting -= first_tokens;
    early_tokens_ += tokens - first_tokens;
  }
  prompt_seconds_ = seconds_since(begin);
  return ok_status();
}

Status LatencyRun::generate() {
  const auto begin = Clock::now();
  for (std::int64_t i = 1; i < cell_.output_len; ++i) {
    std::int64_t tokens = 0;
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t first_tokens, step(tokens));
    if (first_tokens != 0 || tokens != cell_.batch) {
      return internal_error("a generation step gave " + std::to_string(tokens) + " tokens to " +
                            std::to_string(cell_.batch) + " requests; please report this");
    }
  }
  generation_seconds_ = seconds_since(begin);
  for (const RequestId id : ids_) engine_.cancel(id);
  return ok_status();
}

double LatencyRun::context_tokens() const {
  // A request that has answered t tokens reads input_len + t of them in its next step.
  double tokens = 0.0;
  for (const std::int64_t answered : answered_) {
    const double last = static_cast<double>(cell_.input_len + answered - 1);
    tokens += last - 0.5 * static_cast<double>(cell_.output_len - 2);
  }
  return tokens;
}

double LatencyRow::prompt_tokens_per_second() const {
  return static_cast<double>(cell.batch * cell.input_len) / prompt_seconds;
}

double LatencyRow::generation_tokens_per_second() const {
  return static_cast<double>(cell.batch) / step_seconds;
}

Result<LatencyRow> measure_latency(Backend& backend, const LatencyCell& cell,
                                   const LatencyOptions& options,
                                   const std::atomic<bool>& interrupt,
                                   const std::function<void()>& advance) {
  const double steps = static_cast<double>(cell.output_len - 1);
  {
    LatencyCell warm_up = cell;
    warm_up.input_len = std::min(cell.input_len, kWarmUpInput);
    warm_up.output_len = std::min(cell.output_len, kWarmUpOutput);
    LatencyRun run(backend, warm_up, options.seed, interrupt);
    LIQUIDGEMM_RETURN_IF_ERROR(run.prompt());
    LIQUIDGEMM_RETURN_IF_ERROR(run.generate());
  }
  LatencyRow row;
  row.cell = cell;
  std::vector<double> prompt_times;
  std::vector<double> step_times;
  const auto begin = Clock::now();
  for (int i = 0; i < options.iterations; ++i) {
    const double spent = seconds_since(begin);
    if (i > 0 && options.budget_seconds > 0.0 && spent * (i + 1) / i > options.budget_seconds) {
      break;
    }
    LatencyRun run(backend, cell, options.seed, interrupt);
    LIQUIDGEMM_RETURN_IF_ERROR(run.prompt());
    LIQUIDGEMM_RETURN_IF_ERROR(run.generate());
    prompt_times.push_back(run.prompt_seconds());
    step_times.push_back(run.generation_seconds() / steps);
    const ModelOperations operations = model_operations(backend.graph().config);
    const auto batch = static_cast<double>(cell.batch);
    const auto early = static_cast<double>(run.early_tokens());
    row.prompt_operations =
        (batch * static_cast<double>(cell.input_len) + early) * operations.token +
        (batch + early) * operations.logits;
    row.step_operations = batch * (operations.token + operations.logits);
    const double kv_token_bytes = static_cast<double>(backend.page_bytes()) / kPageTokens;
    row.context_tokens = run.context_tokens();
    row.step_bytes =
        static_cast<double>(backend.weight_bytes()) + row.context_tokens * kv_token_bytes;
    if (options.ceilings) {
      const StepLoad load{.batch = cell.batch,
                          .context_tokens = row.context_tokens,
                          .kv_token_bytes = kv_token_bytes,
                          .half_weights = options.half_weights};
      row.floor = step_floor(backend.graph(), load, *options.ceilings);
      row.step_bytes = step_bytes(backend.graph(), load);
    }
    advance();
  }
  row.iterations = static_cast<int>(prompt_times.size());
  row.prompt_seconds = median(prompt_times);
  row.prompt_spread = spread(prompt_times);
  row.step_seconds = median(step_times);
  row.step_spread = spread(step_times);
  if (options.breakdown) {
    TimedBackend timed(backend);
    LatencyRun run(timed, cell, options.seed, interrupt);
    Breakdown& breakdown = row.breakdown.emplace();
    LIQUIDGEMM_RETURN_IF_ERROR(run.prompt());
    breakdown.device_clock = timed.device_clock();
    breakdown.prompt = timed.seconds();
    breakdown.prompt_seconds = run.prompt_seconds();
    timed.reset();
    LIQUIDGEMM_RETURN_IF_ERROR(run.generate());
    breakdown.step = timed.seconds();
    for (double& seconds : breakdown.step) seconds /= steps;
    breakdown.step_seconds = run.generation_seconds() / steps;
  }
  return row;
}

}  // namespace liquidgemm::bench
