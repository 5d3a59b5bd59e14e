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
  float temperature = 1.0f;         // 0: greedy
  std::int32_t top_k = 0;           // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1)
  float repetition_penalty = 1.0f;  // > 0; over prompt and answer, as Hugging Face
  float presence_penalty = 0.0f;    // over the answer, as OpenAI
  float frequency_penalty = 0.0f;
  std::uint64_t seed = 0;
};

// Every field finite and in range; the message names the field.
Status check_sampling(const SamplingParams& params);

// How often a token has appeared so far.
struct TokenCount {
  std::int32_t token = 0;
  bool in_prompt = false;
  std::int32_t in_answer = 0;
};

struct SampledToken {
  std::int32_t token = -1;  // -1: the logits hold a NaN or no finite value
  float logit = 0.0f;       // as the model gave it
};

// A uniform number in [0, 1) with 24 bits, from Philox-4x32-10 keyed by seed at counter position.
float uniform_at(std::uint64_t seed, std::uint64_t position);

// `scratch` is resized to the vocabulary once and reused. Order of the steps: penalties,
// temperature, top-k, softmax, top-p, min-p, draw. Ties go to the lower token id.
SampledToken sample(std::span<const float> logits, const SamplingParams& params,
                    std::span<const TokenCount> counts, std::uint64_t position,
                    std::vector<float>& scratch);

}  // namespace liquidgemm
