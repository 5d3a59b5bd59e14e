#include "engine/engine.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>

#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

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

PositionLogprobs position_logprobs(TokenId token, const TokenScore& score) {
  return {.chosen = {token, score.logprob},
          .top = {score.top.begin(), score.top.begin() + score.count}};
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
  result.max_logits_rows = limits.max_logits_rows;
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
    case FinishReason::kTimeout: return "timeout";
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

Status Engine::check_tokens(const Request& request) const {
  LIQUIDGEMM_RETURN_IF_ERROR(backend_.check_tokens(request.prompt));
  const auto too_many = [](const char* field, std::size_t count, std::size_t most) {
    return invalid_argument(std::string(field) + ": " + std::to_string(count) +
                            " entries, at most " + std::to_string(most));
  };
  if (request.stop_tokens.size() > kMaxStopTokens) {
    return too_many("stop_token_ids", request.stop_tokens.size(), kMaxStopTokens);
  }
  if (request.logit_bias.size() > kMaxLogitBiases) {
    return too_many("logit_bias", request.logit_bias.size(), kMaxLogitBiases);
  }
  std::unordered_set<TokenId> seen;
  for (const TokenBias& bias : request.logit_bias) {
    const std::string field = "logit_bias: token " + std::to_string(bias.token);
    const std::int64_t vocabulary = backend_.graph().config.vocab_size;
    if (bias.token < 0 || bias.token >= vocabulary) {
      return invalid_argument(field + " is outside the vocabulary of " +
                              std::to_string(vocabulary));
    }
    // Written so that a NaN fails.
    if (!(bias.bias >= -kMaxLogitBias && bias.bias <= kMaxLogitBias)) {
      return invalid_argument(field + " has a bias of " + std::to_string(bias.bias) +
                              ", expected a number from -100 to 100");
    }
    if (!seen.insert(bias.token).second) return invalid_argument(field + " stands there twice");
  }
  return ok_status();
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
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens) {
    return invalid_argument("min_tokens: expected 0 to max_tokens (" +
                            std::to_string(request.max_tokens) + "), found " +
                            std::to_string(request.min_tokens));
  }
  for (const auto& [name, count] :
       {std::pair("logprobs", request.logprobs), {"prompt_logprobs", request.prompt_logprobs}}) {
    if (count >= -1 && count <= kMaxLogprobs) continue;
    return invalid_argument(std::string(name) + ": expected 0 to " + std::to_string(kMaxLogprobs) +
                            ", or -1 for none, found " + std::to_string(count));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check_tokens(request));
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
  if (has_penalties(sequence->request.sampling)) {
    for (const TokenId token : sequence->tokens) count_token(*sequence, token, true);
  }
  if (sequence->request.min_tokens > 0) {
    for (const TokenId token : sequence->request.stop_tokens) {
      sequence->biases.push_back({token, -std::numeric_limits<float>::infinity()});
    }
    sequence->stop_biases = sequence->biases.size();
  }
  sequence->biases.insert(sequence->biases.end(), sequence->request.logit_bias.begin(),
                          sequence->request.logit_bias.end());
  if (sequence->request.deadline) deadlines_.emplace(*sequence->request.deadline, id);
  scheduler_.add(std::move(sequence));
}

std::optional<RequestRecord> Engine::cancel(RequestId id) {
  const std::unique_ptr<Sequence> sequence = take_out(id);
  if (!sequence) return std::nullopt;
  sequence->record.finished = clock_();
  return sequence->record;
}

std::unique_ptr<Sequence> Engine::take_out(RequestId id) {
  std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
  if (sequence && sequence->request.deadline) {
    deadlines_.erase({*sequence->request.deadline, id});
  }
  return sequence;
}

void Engine::end_late(TimePoint now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Sequence& sequence = *scheduler_.find(deadlines_.begin()->second);
    end(sequence,
        late_.emplace_back(Update{.request = sequence.id, .finish = FinishReason::kTimeout}), now);
  }
}

void Engine::build_step(const std::vector<Scheduler::Work>& work) {
  step_tokens_.clear();
  step_sequences_.clear();
  step_logits_rows_.clear();
  step_samples_.clear();
  step_held_.clear();
  step_scores_.clear();
  step_sampled_.clear();
  step_prompt_scores_.clear();
  for (const auto& [sequence, rows] : work) {
    const auto first_row = static_cast<std::int32_t>(step_tokens_.size());
    const auto begin = sequence->tokens.begin() + sequence->computed;
    step_tokens_.insert(step_tokens_.end(), begin, begin + rows);
    step_sequences_.push_back({.first_row = first_row,
                               .rows = static_cast<std::int32_t>(rows),
                               .context = static_cast<std::int32_t>(sequence->computed),
                               .pages = sequence->pages});
    step_held_.push_back(sequence->id);
    add_prompt_scores(*sequence, rows, first_row);
    // The last token is in: its logits choose the next one.
    if (rows == sequence->missing()) {
      add_sample(*sequence, first_row + static_cast<std::int32_t>(rows) - 1);
    }
  }
}

void Engine::add_prompt_scores(Sequence& sequence, std::int64_t rows, std::int32_t first_row) {
  const std::int64_t count = sequence.unscored(sequence.computed, sequence.computed + rows);
  if (count == 0) return;
  step_prompt_scores_.push_back({&sequence, step_scores_.size(), static_cast<std::size_t>(count)});
  const std::int64_t begin = std::max(sequence.computed, sequence.scored);
  for (std::int64_t at = begin; at < begin + count; ++at) {
    step_scores_.push_back({.logits_row = static_cast<std::int32_t>(step_logits_rows_.size()),
                            .token = sequence.tokens[static_cast<std::size_t>(at + 1)],
                            .top = sequence.request.prompt_logprobs});
    step_logits_rows_.push_back(first_row + static_cast<std::int32_t>(at - sequence.computed));
  }
}

void Engine::add_sample(Sequence& sequence, std::int32_t row) {
  const Request& request = sequence.request;
  const bool early = sequence.record.answer_tokens < request.min_tokens;
  const auto logits_row = static_cast<std::int32_t>(step_logits_rows_.size());
  SampleRow sample{.logits_row = logits_row,
                   .params = request.sampling,
                   .counts = sequence.counts,
                   .position = static_cast<std::uint64_t>(sequence.tokens.size())};
  if (request.constraint) sample.mask = constraint_mask(sequence, early);
  // A mask keeps the stop tokens away by itself, where it does.
  const bool stop_biases = early && sample.mask.empty();
  sample.bias = std::span(sequence.biases).subspan(stop_biases ? 0 : sequence.stop_biases);
  Sampled sampled{.sequence = &sequence};
  if (request.logprobs >= 0) {
    sampled.score = static_cast<std::int32_t>(step_scores_.size());
    step_scores_.push_back({.logits_row = logits_row,
                            .sample = static_cast<std::int32_t>(step_samples_.size()),
                            .top = request.logprobs});
  }
  step_samples_.push_back(sample);
  step_logits_rows_.push_back(row);
  step_sampled_.push_back(sampled);
}

// Empty: any token may come. `early`: stop tokens should not, unless the grammar has come to its
// end and lets nothing else follow.
std::span<const std::uint32_t> Engine::constraint_mask(Sequence& sequence, bool early) {
  std::vector<std::uint32_t>& mask = sequence.mask;
  mask.resize((static_cast<std::size_t>(backend_.graph().config.vocab_size) + 31) / 32);
  if (!sequence.request.constraint->allowed(mask)) return {};
  if (!early) return mask;
  std::vector<TokenId> stops;
  for (const TokenId token : sequence.request.stop_tokens) {
    const auto word = static_cast<std::size_t>(token) / 32;
    const std::uint32_t bit = 1u << (static_cast<std::uint32_t>(token) % 32);
    if (token < 0 || word >= mask.size() || (mask[word] & bit) == 0) continue;
    mask[word] &= ~bit;
    stops.push_back(token);
  }
  if (std::all_of(mask.begin(), mask.end(), [](std::uint32_t word) { return word == 0; })) {
    for (const TokenId token : stops) {
      mask[static_cast<std::size_t>(token) / 32] |= 1u << (static_cast<std::uint32_t>(token) % 32);
    }
  }
  return mask;
}

Update Engine::take_token(Sequence& sequence, const SampledToken& sampled, TimePoint now) {
  Update update{.request = sequence.id};
  update.prompt_logprobs = std::exchange(sequence.prompt_logprobs, {});
  TokenConstraint* constraint = sequence.request.constraint.get();
  if (sampled.token < 0 || (constraint != nullptr && !constraint->accept(sampled.token))) {
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
    update.cached_tokens = record.cached_tokens;
  }
  sequence.last_token = now;
  ++record.answer_tokens;
  if (has_penalties(sequence.request.sampling)) count_token(sequence, sampled.token, false);
  if (record.answer_tokens >= sequence.request.max_tokens ||
      sequence.length() > backend_.limits().max_position) {
    update.finish = FinishReason::kLength;
  }
  return update;
}

Result<std::vector<Update>> Engine::step() {
  const TimePoint began = clock_();
  end_late(began);
  if (idle()) return std::exchange(late_, {});
  build_step(scheduler_.schedule(began));
  LIQUIDGEMM_RETURN_IF_ERROR(backend_.step({.tokens = step_tokens_,
                                            .sequences = step_sequences_,
                                            .logits_rows = step_logits_rows_,
                                            .samples = step_samples_,
                                            .scores = step_scores_}));
  scheduler_.complete();
  std::vector<Update> updates = std::exchange(late_, {});
  const TimePoint now = clock_();
  take_prompt_scores(updates, now);
  const std::span<const SampledToken> sampled = backend_.sampled();
  for (std::size_t i = 0; i < step_sampled_.size(); ++i) {
    const auto [sequence, score] = step_sampled_[i];
    if (sequence == nullptr) continue;
    Update& update = updates.emplace_back(take_token(*sequence, sampled[i], now));
    if (update.token >= 0 && score >= 0) {
      update.logprobs =
          position_logprobs(update.token, backend_.scores()[static_cast<std::size_t>(score)]);
    }
    if (update.finish != FinishReason::kNone) end(*sequence, update, now);
  }
  return updates;
}

void Engine::take_prompt_scores(std::vector<Update>& updates, TimePoint now) {
  for (const auto& [sequence, first, count] : step_prompt_scores_) {
    bool usable = true;
    for (std::size_t i = first; i < first + count; ++i) {
      const TokenScore& score = backend_.scores()[i];
      usable = usable && !std::isnan(score.logprob);
      sequence->prompt_logprobs.push_back(position_logprobs(step_scores_[i].token, score));
    }
    sequence->scored += static_cast<std::int64_t>(count);
    if (usable) continue;
    for (Sampled& sampled : step_sampled_) {
      if (sampled.sequence == sequence) sampled.sequence = nullptr;
    }
    end(*sequence,
        updates.emplace_back(Update{.request = sequence->id, .finish = FinishReason::kError}), now);
  }
}

void Engine::end(Sequence& sequence, Update& update, TimePoint now) {
  sequence.record.finished = now;
  update.record = sequence.record;
  take_out(sequence.id);
}

std::vector<Update> Engine::abandon_step() {
  std::vector<Update> updates = std::exchange(late_, {});
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
