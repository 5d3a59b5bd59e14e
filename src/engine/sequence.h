// One request on its way through the engine.
#pragma once

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

  // How often each token appeared, kept only when a penalty is set.
  std::vector<TokenCount> counts;
  std::unordered_map<TokenId, std::size_t> count_index;

  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t missing() const { return length() - computed; }
};

}  // namespace liquidgemm
