// Log-probabilities of tokens by one row of logits, as the model gave it.
//
//   log p(t) = (x[t] - max x) - log(sum over u of exp(x[u] - max x))
//
// rounded to float once, at the end. The sum is taken in double in a fixed order, so the result
// depends on the row alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace liquidgemm {

inline constexpr std::int32_t kMaxLogprobs = 20;

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0.0f;
};

struct TokenScore {
  float logprob = 0.0f;    // NaN: the row holds a NaN or nothing but -inf
  std::int32_t count = 0;  // of `top`; less than asked for where fewer tokens can come at all
  std::array<TokenLogprob, kMaxLogprobs> top;
};

// That of `token`, and the `top` (0 .. kMaxLogprobs) largest, descending, ties by ascending id.
// Where logits are +inf they share everything.
void score_token(std::span<const float> logits, std::int32_t token, std::int32_t top,
                 TokenScore& score);

}  // namespace liquidgemm
