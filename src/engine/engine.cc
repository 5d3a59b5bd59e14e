#include "engine/engine.h"

#include <algorithm>

#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

std::int64_t pages_for(std::int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

bool has_penalty(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
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
    : backend_(backend), options_(options), pages_(backend.limits().pages) {
  options_.prompt_chunk =
      std::clamp<std::int64_t>(options_.prompt_chunk, 1, backend.limits().max_rows);
  const std::int64_t most = backend.limits().max_sequences;
  options_.max_sequences =
      options_.max_sequences <= 0 ? most : std::min(options_.max_sequences, most);
}

// Tokens that the sequence may grow to. The last sampled token is never fed back.
std::int64_t Engine::longest(const Request& request) const {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t room = backend_.limits().max_position - prompt;
  return prompt + std::min(request.max_tokens, room + 1) - 1;
}

Result<RequestId> Engine::submit(Request request) {
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
  LIQUIDGEMM_RETURN_IF_ERROR(backend_.check_tokens(request.prompt));
  LIQUIDGEMM_RETURN_IF_ERROR(check_sampling(request.sampling));
  if (pages_for(longest(request)) > pages_.total()) {
    return resource_exhausted("the request may need " + std::to_string(longest(request)) +
                              " tokens of KV cache, the cache holds " +
                              std::to_string(pages_.total() * kPageTokens));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  sequence->request = std::move(request);
  sequence->tokens = sequence->request.prompt;
  if (has_penalty(sequence->request.sampling)) {
    for (const TokenId token : sequence->tokens) count_token(*sequence, token, true);
  }
  const RequestId id = sequence->id;
  waiting_.push_back(std::move(sequence));
  return id;
}

void Engine::cancel(RequestId id) {
  std::erase_if(waiting_, [&](const auto& sequence) { return sequence->id == id; });
  std::erase_if(running_, [&](const auto& sequence) {
    if (sequence->id != id) return false;
    pages_.give_back(sequence->pages);
    return true;
  });
}

void Engine::count_token(Sequence& sequence, TokenId token, bool in_prompt) {
  const auto [found, added] = sequence.count_index.try_emplace(token, sequence.counts.size());
  if (added) sequence.counts.push_back({.token = token});
  TokenCount& count = sequence.counts[found->second];
  if (in_prompt) {
    count.in_prompt = true;
  } else {
    ++count.in_answer;
  }
}

// First come, first served. A sequence gets every page it may ever need when it starts, so a
// running sequence never has to wait for memory.
void Engine::admit() {
  while (!waiting_.empty() && running() < options_.max_sequences) {
    Sequence& next = *waiting_.front();
    if (!pages_.take(pages_for(longest(next.request)), next.pages)) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Engine::add_rows(Sequence& sequence, std::int64_t rows) {
  const auto first_row = static_cast<std::int32_t>(step_tokens_.size());
  const auto begin = sequence.tokens.begin() + sequence.cached;
  step_tokens_.insert(step_tokens_.end(), begin, begin + rows);
  step_sequences_.push_back({.first_row = first_row,
                             .rows = static_cast<std::int32_t>(rows),
                             .context = static_cast<std::int32_t>(sequence.cached),
                             .pages = sequence.pages});
  sequence.cached += rows;
  if (sequence.cached < static_cast<std::int64_t>(sequence.tokens.size())) return;
  // The last token is in: its logits choose the next one.
  step_samples_.push_back({.logits_row = static_cast<std::int32_t>(step_logits_rows_.size()),
                           .params = sequence.request.sampling,
                           .counts = sequence.counts,
                           .position = static_cast<std::uint64_t>(sequence.tokens.size())});
  step_logits_rows_.push_back(first_row + static_cast<std::int32_t>(rows) - 1);
  step_sampled_.push_back(&sequence);
}

Update Engine::take_token(Sequence& sequence, const SampledToken& sampled) {
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
  if (has_penalty(sequence.request.sampling)) count_token(sequence, sampled.token, false);
  if (sequence.answered() >= sequence.request.max_tokens ||
      static_cast<std::int64_t>(sequence.tokens.size()) > backend_.limits().max_position) {
    update.finish = FinishReason::kLength;
  }
  return update;
}

Result<std::vector<Update>> Engine::step() {
  admit();
  std::vector<Update> updates;
  if (running_.empty()) return updates;

  step_tokens_.clear();
  step_sequences_.clear();
  step_logits_rows_.clear();
  step_samples_.clear();
  step_sampled_.clear();
  const BackendLimits& limits = backend_.limits();
  // Sequences that are answering first (one row each), then prompts with the rows that are left.
  for (const bool prompts : {false, true}) {
    for (const auto& sequence : running_) {
      const std::int64_t missing =
          static_cast<std::int64_t>(sequence->tokens.size()) - sequence->cached;
      if ((sequence->answered() == 0) != prompts) continue;
      const std::int64_t room = limits.max_rows - static_cast<std::int64_t>(step_tokens_.size());
      const std::int64_t rows = std::min({missing, room, options_.prompt_chunk});
      // The last rows of a prompt need a place for their logits.
      const bool logits_full =
          static_cast<std::int64_t>(step_logits_rows_.size()) >= limits.max_logits_rows;
      if (rows <= 0 || (rows == missing && logits_full)) continue;
      add_rows(*sequence, rows);
    }
  }
  const Status status = backend_.step({.tokens = step_tokens_,
                                       .sequences = step_sequences_,
                                       .logits_rows = step_logits_rows_,
                                       .samples = step_samples_});
  LIQUIDGEMM_RETURN_IF_ERROR(status);
  const std::span<const SampledToken> sampled = backend_.sampled();
  for (std::size_t i = 0; i < step_sampled_.size(); ++i) {
    updates.push_back(take_token(*step_sampled_[i], sampled[i]));
    if (updates.back().finish != FinishReason::kNone) cancel(updates.back().request);
  }
  return updates;
}

}  // namespace liquidgemm
