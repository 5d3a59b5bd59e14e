// Prompts of random tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "base/splitmix64.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm::bench {

inline std::vector<TokenId> random_prompt(std::int64_t tokens, std::int64_t vocabulary,
                                          std::uint64_t seed) {
  const std::uint64_t key = splitmix64(seed);
  std::vector<TokenId> prompt(static_cast<std::size_t>(tokens));
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<TokenId>(splitmix64(key ^ i) % static_cast<std::uint64_t>(vocabulary));
  }
  return prompt;
}

}  // namespace liquidgemm::bench
