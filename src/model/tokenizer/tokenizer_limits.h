// What a tokenizer file may hold. Far above any published tokenizer; they bound memory and time.
#pragma once

#include <cstddef>

namespace liquidgemm {

inline constexpr std::size_t kMaxTokenId = (1u << 22) - 1;
inline constexpr std::size_t kMaxMerges = 1u << 22;
inline constexpr std::size_t kMaxTokenBytes = 1u << 16;  // of one token's text
inline constexpr std::size_t kMaxAddedTokens = 1u << 18;
inline constexpr std::size_t kMaxAddedTokenBytes = 16u << 20;  // of all added tokens' texts
inline constexpr std::size_t kMaxTemplateTokens = 64;          // before the text, and after it

}  // namespace liquidgemm
