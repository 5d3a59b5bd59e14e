// Choosing the next token from one row of logits.
//
// Deterministic: the random number is a counter-based function of (seed, position) alone, so a
// request draws the same tokens whatever runs beside it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm {

struct SamplingParams {
  float temperature = 1.0f;         // >= 0; 0: greedy
  std::int32_t top_k = 0;           // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1)
  float repetition_penalty = 1.0f;  // > 0; over prompt and answer, as Hugging Face
  float presence_penalty = 0.0f;    // [-2, 2], over the answer, as OpenAI
  float frequency_penalty = 0.0f;   // [-2, 2]
  std::uint64_t seed = 0;
};

// Whether the tokens so far change the logits.
bool has_penalties(const SamplingParams& params);

// Every field finite and in range; the message names the field.
Status check_sampling(const SamplingParams& params);

// How often a token has appeared so far.
struct TokenCount {
  std::int32_t token = 0;
  bool in_prompt = false;
  std::int32_t in_answer = 0;
};

struct TokenBias {
  std::int32_t token = 0;
  float bias = 0.0f;  // -inf: the token is never drawn
};

// What is done to the logits of one request before a token is drawn. Tokens outside the vocabulary
// are passed over.
struct LogitChanges {
  std::span<const TokenBias> bias = {};
  // Bit t % 32 of word t / 32: token t may be drawn. Empty: every token may; else tokens past its
  // end may not.
  std::span<const std::uint32_t> mask = {};
  std::span<const TokenCount> counts = {};  // each token once
};

struct SampledToken {
  // -1: the logits hold a NaN or no finite value, or none that may be drawn.
  std::int32_t token = -1;
  float logit = 0.0f;  // as the model gave it
};

// A uniform number in [0, 1) with 24 bits, from Philox-4x32-10 keyed by seed at counter position.
float uniform_at(std::uint64_t seed, std::uint64_t position);

// The next token for checked parameters. Each step sees what the one before left:
//
//   bias          added to finite logits, which stay finite unless it is -inf
//   mask          -inf where a token may not be drawn
//   penalties     over the tokens of `counts`: repetition, then frequency and presence; a finite
//                 logit stays finite
//   greedy        temperature 0 ends here: the largest logit
//   temperature   y = (x - max x) / temperature
//   top-k         the k largest y
//   softmax       weights exp(y); -inf weighs nothing
//   top-p         the fewest tokens, heaviest first, that hold top_p of the weight; at least one
//   min-p         those that weigh at least min_p times the heaviest
//   draw          the first token, in ascending id, at which the running sum of the weights
//                 exceeds (uniform_at(seed, position) + 2^-25) times their total
//
// Ties go to the lower token id. A logit of +inf takes everything (shared where there are several).
// `scratch` grows to three times the vocabulary once and is reused.
SampledToken sample(std::span<const float> logits, const SamplingParams& params,
                    const LogitChanges& changes, std::uint64_t position,
                    std::vector<float>& scratch);

}  // namespace liquidgemm
