// One request on its way through the engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace liquidgemm {

struct Sequence {
  RequestId id = 0;
  Request request;
  std::vector<TokenId> tokens;  // prompt and answer
  std::int64_t longest = 0;     // tokens that the cache must hold at the very end
  RequestRecord record;
  TimePoint last_token;  // when it came

  // The scheduler's. Preemption empties pages; tokens stay, and are computed again.
  std::int64_t computed = 0;  // tokens whose keys and values are in the pages
  std::vector<std::int32_t> pages;
  std::int64_t linked = 0;                 // leading pages that the prefix cache knows
  bool linkable = true;                    // false: the next page's hash belongs to another prefix
  std::vector<std::uint64_t> page_hashes;  // of full pages, as far as they were asked for

  // Of the prompt's positions, when its log-probabilities are asked for: those of the tokens after
  // the first so many are known. Preemption does not lose them.
  std::int64_t scored = 0;
  std::vector<PositionLogprobs> prompt_logprobs;

  // What keeps the stop tokens from being drawn, then the request's own biases.
  std::vector<TokenBias> biases;
  std::size_t stop_biases = 0;
  std::vector<std::uint32_t> mask;  // the constraint's, of the token to be drawn

  // How often each token appeared, kept only when a penalty is set.
  std::vector<TokenCount> counts;
  std::unordered_map<TokenId, std::size_t> count_index;

  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t missing() const { return length() - computed; }
  // Positions from `begin` to before `end` whose logits are wanted for the prompt's next token.
  std::int64_t unscored(std::int64_t begin, std::int64_t end) const {
    if (request.prompt_logprobs < 0) return 0;
    return std::max<std::int64_t>(std::min(end, record.prompt_tokens - 1) - std::max(begin, scored),
                                  0);
  }
};

}  // namespace liquidgemm
