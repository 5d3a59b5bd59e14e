#include "engine/engine.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

bool has_penalty(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
}

void count_token(Sequence& sequence, TokenId token, bool in_prompt) {
  const auto [found, added] = sequence.count_index.try_emplace(token, sequence.counts.size());
  if (added) sequence.counts.push_back({.token = token});
  TokenCount& count = sequence.counts[found->second];
  if (in_prompt) {
    count.in_prompt = true;
  } else {
    ++count.in_answer;
  }
}

SchedulerOptions scheduler_options(const Backend& backend, const EngineOptions& options) {
  const BackendLimits& limits = backend.limits();
  const auto at_most = [](std::int64_t wanted, std::int64_t most) {
    return wanted <= 0 ? most : std::min(wanted, most);
  };
  SchedulerOptions result;
  result.pages = limits.pages;
  result.max_batched_tokens = at_most(options.max_batched_tokens, limits.max_rows);
  // So that every running sequence can have a row, and its logits, in every step.
  result.max_sequences =
      at_most(options.max_sequences,
              std::min({limits.max_sequences, limits.max_logits_rows, result.max_batched_tokens}));
  result.prompt_chunk = options.prompt_chunk;
  result.prefix_caching = options.prefix_caching;
  result.scope = options.model + '\n' + std::string(kv_format_name(limits.kv_format));
  result.page_hash = options.prefix_hash;
  return result;
}

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone: return "none";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kError: return "error";
  }
  return "?";
}

Engine::Engine(Backend& backend, const EngineOptions& options)
    : backend_(backend),
      clock_(options.clock ? options.clock : &std::chrono::steady_clock::now),
      scheduler_(scheduler_options(backend, options)) {}

// Tokens that the sequence may grow to. The last sampled token is never fed back.
std::int64_t Engine::longest(const Request& request) const {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t room = backend_.limits().max_position - prompt;
  return prompt + std::min(request.max_tokens, room + 1) - 1;
}

Status Engine::check(const Request& request) const {
  const BackendLimits& limits = backend_.limits();
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0) return invalid_argument("prompt: empty, expected at least one token");
  if (prompt > limits.max_position) {
    return invalid_argument("prompt: " + std::to_string(prompt) + " tokens, at most " +
                            std::to_string(limits.max_position) + " fit (--max-model-len)");
  }
  if (request.max_tokens < 1) {
    return invalid_argument("max_tokens: expected at least 1, found " +
                            std::to_string(request.max_tokens));
  }
  if (request.cache_salt.size() > kMaxCacheSalt) {
    return invalid_argument("cache_salt: " + std::to_string(request.cache_salt.size()) +
                            " bytes, at most " + std::to_string(kMaxCacheSalt));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(backend_.check_tokens(request.prompt));
  LIQUIDGEMM_RETURN_IF_ERROR(check_sampling(request.sampling));
  const std::int64_t tokens = longest(request);
  if (pages_for(tokens) > limits.pages) {
    return resource_exhausted("the request may need " + std::to_string(pages_for(tokens)) +
                              " pages of KV cache (" + std::to_string(tokens) + " tokens, " +
                              std::to_string(prompt) + " of them the prompt's), there are " +
                              std::to_string(limits.pages) +
                              ": shorten the prompt or lower max_tokens");
  }
  return ok_status();
}

Result<RequestId> Engine::submit(Request request) {
  LIQUIDGEMM_RETURN_IF_ERROR(check(request));
  const RequestId id = next_id_;
  add(id, std::move(request), clock_());
  return id;
}

void Engine::add(RequestId id, Request request, TimePoint arrival) {
  assert(id >= next_id_);
  next_id_ = id + 1;
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->longest = longest(request);
  sequence->request = std::move(request);
  sequence->tokens = sequence->request.prompt;
  sequence->record.arrival = arrival;
  sequence->record.prompt_tokens = sequence->length();
  if (has_penalty(sequence->request.sampling)) {
    for (const TokenId token : sequence->tokens) count_token(*sequence, token, true);
  }
  scheduler_.add(std::move(sequence));
}

std::optional<RequestRecord> Engine::cancel(RequestId id) {
  const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
  if (!sequence) return std::nullopt;
  sequence->record.finished = clock_();
  return sequence->record;
}

void Engine::build_step(const std::vector<Scheduler::Work>& work) {
  step_tokens_.clear();
  step_sequences_.clear();
  step_logits_rows_.clear();
  step_samples_.clear();
  step_held_.clear();
  step_sampled_.clear();
  for (const auto& [sequence, rows] : work) {
    const auto first_row = static_cast<std::int32_t>(step_tokens_.size());
    const auto begin = sequence->tokens.begin() + sequence->computed;
    step_tokens_.insert(step_tokens_.end(), begin, begin + rows);
    step_sequences_.push_back({.first_row = first_row,
                               .rows = static_cast<std::int32_t>(rows),
                               .context = static_cast<std::int32_t>(sequence->computed),
                               .pages = sequence->pages});
    step_held_.push_back(sequence->id);
    if (rows < sequence->missing()) continue;
    // The last token is in: its logits choose the next one.
    step_samples_.push_back({.logits_row = static_cast<std::int32_t>(step_logits_rows_.size()),
                             .params = sequence->request.sampling,
                             .counts = sequence->counts,
                             .position = static_cast<std::uint64_t>(sequence->tokens.size())});
    step_logits_rows_.push_back(first_row + static_cast<std::int32_t>(rows) - 1);
    step_sampled_.push_back(sequence);
  }
}

Update Engine::take_token(Sequence& sequence, const SampledToken& sampled, TimePoint now) {
  Update update{.request = sequence.id};
  if (sampled.token < 0) {
    update.finish = FinishReason::kError;
    return update;
  }
  const std::vector<TokenId>& stop = sequence.request.stop_tokens;
  if (std::find(stop.begin(), stop.end(), sampled.token) != stop.end()) {
    update.finish = FinishReason::kStop;
    return update;
  }
  update.token = sampled.token;
  sequence.tokens.push_back(sampled.token);
  RequestRecord& record = sequence.record;
  if (record.first_token) {
    update.since_last_token = now - sequence.last_token;
  } else {
    record.first_token = now;
  }
  sequence.last_token = now;
  ++record.answer_tokens;
  if (has_penalty(sequence.request.sampling)) count_token(sequence, sampled.token, false);
  if (record.answer_tokens >= sequence.request.max_tokens ||
      sequence.length() > backend_.limits().max_position) {
    update.finish = FinishReason::kLength;
  }
  return update;
}

Result<std::vector<Update>> Engine::step() {
  std::vector<Update> updates;
  if (idle()) return updates;
  build_step(scheduler_.schedule(clock_()));
  LIQUIDGEMM_RETURN_IF_ERROR(backend_.step({.tokens = step_tokens_,
                                            .sequences = step_sequences_,
                                            .logits_rows = step_logits_rows_,
                                            .samples = step_samples_}));
  scheduler_.complete();
  const TimePoint now = clock_();
  const std::span<const SampledToken> sampled = backend_.sampled();
  for (std::size_t i = 0; i < step_sampled_.size(); ++i) {
    Sequence& sequence = *step_sampled_[i];
    Update& update = updates.emplace_back(take_token(sequence, sampled[i], now));
    if (update.finish != FinishReason::kNone) end(sequence, update, now);
  }
  return updates;
}

void Engine::end(Sequence& sequence, Update& update, TimePoint now) {
  sequence.record.finished = now;
  update.record = sequence.record;
  scheduler_.remove(sequence.id);
}

std::vector<Update> Engine::abandon_step() {
  std::vector<Update> updates;
  const TimePoint now = clock_();
  for (const RequestId id : step_held_) {
    Sequence* sequence = scheduler_.find(id);
    if (sequence == nullptr) continue;  // cancelled meanwhile
    end(*sequence, updates.emplace_back(Update{.request = id, .finish = FinishReason::kError}),
        now);
  }
  step_held_.clear();
  return updates;
}

}  // namespace liquidgemm
