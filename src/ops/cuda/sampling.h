// Sampling and log-probabilities on the GPU: those of ops/sampling.h and ops/logprobs.h, from
// logits that stay in device memory.
//
// The token is the CPU's, whatever the parameters: the same uniform number, weights, order of
// tokens and order of every double sum that a choice hangs on. The sums of top-p's bins are made in
// fixed point instead. They equal the CPU's as long as those are exact, which they are up to
// 131,072 tokens (a bin's weights lie within a factor of 2^12 of each other and have 24 bits); with
// more they could differ only where over 131,072 tokens share a bin that lies 32 or more below the
// largest logit, too light to move a cut by more than the last bit of a double.
//
// Nothing here allocates or waits; the launches may be captured in a CUDA graph and replayed with
// new rows, parameters and counts in the same buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "ops/logprobs.h"
#include "ops/sampling.h"

namespace liquidgemm {

// The largest vocabulary: eight thread blocks hold a row in their shared memory.
inline constexpr std::int32_t kMaxCudaVocabulary = 327680;
// Samples, or scores, in one call.
inline constexpr std::int32_t kMaxCudaSamples = 65535;

// Once for each device, with the device current, before the first call of the functions below (and
// outside of a capture).
Status prepare_sampling();

// One token to choose: SamplingParams and LogitChanges with their lists in shared arrays.
struct CudaSample {
  std::int32_t logits_row = 0;
  float temperature = 1.0f;
  std::int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::uint64_t seed = 0;
  std::uint64_t position = 0;
  std::int32_t bias_begin = 0;  // in CudaSampleArguments::biases
  std::int32_t bias_count = 0;
  std::int32_t counts_begin = 0;
  std::int32_t counts_count = 0;
  std::int64_t mask_begin = 0;
  std::int32_t mask_words = 0;  // 0: every token may be drawn
};

// All pointers are device memory.
struct CudaSampleArguments {
  const float* logits = nullptr;  // [rows, vocabulary], row stride `ld` elements, 4-byte aligned
  std::int64_t ld = 0;
  std::int32_t rows = 0;
  std::int32_t vocabulary = 0;          // 1 .. kMaxCudaVocabulary
  const CudaSample* samples = nullptr;  // [max_count], parameters checked by check_sampling
  // How many of them there are, at most max_count. Null: max_count.
  const std::int32_t* count = nullptr;
  std::int32_t max_count = 0;
  const TokenBias* biases = nullptr;  // null where no sample has any; likewise counts and masks
  const TokenCount* counts = nullptr;
  const std::uint32_t* masks = nullptr;
  // [max_count]. Those past `count` are left alone. A logits_row outside the rows gives token -1.
  SampledToken* sampled = nullptr;
  // sample_workspace_bytes(max_count), 16-byte aligned, zero before the first use. Two launches at
  // once must not share it; every launch leaves it ready for the next, with any max_count that
  // fits.
  void* workspace = nullptr;
  // Promises that no sample has a temperature, a bias, a mask or penalties: one kernel less. A
  // sample that breaks it gets token -1.
  bool plain_greedy = false;
};

std::size_t sample_workspace_bytes(std::int32_t max_count);

// sampled[i] = sample(row, parameters) for i < count.
Status sample_rows(const CudaSampleArguments& arguments, CudaStream stream);

// ---- Log-probabilities -------------------------------------------------------------------------

struct CudaScore {
  std::int32_t logits_row = 0;
  std::int32_t token = -1;   // -1: the one of `sample`
  std::int32_t sample = -1;  // index into CudaScoreArguments::sampled
  std::int32_t top = 0;      // at most kMaxLogprobs
};

// What log-probabilities are made from. The logarithm is left to token_score on the host: that of
// the device's library may differ in the last bit.
struct CudaRowScore {
  float max = 0.0f;        // the largest logit; NaN: the row holds a NaN or nothing but -inf
  float logit = 0.0f;      // the token's; NaN: there is no such token
  double total = 0.0;      // sum of exp(x - max); with max = +inf how many are
  std::int32_t count = 0;  // of top
  struct Entry {
    std::int32_t token;
    float logit;
  } top[kMaxLogprobs];
};

// All pointers are device memory.
struct CudaScoreArguments {
  const float* logits = nullptr;  // as in CudaSampleArguments
  std::int64_t ld = 0;
  std::int32_t rows = 0;
  std::int32_t vocabulary = 0;
  const CudaScore* scores = nullptr;    // [max_count]
  const std::int32_t* count = nullptr;  // null: max_count
  std::int32_t max_count = 0;
  const SampledToken* sampled = nullptr;  // null where no score refers to a sample
  std::int32_t samples = 0;               // entries of `sampled`
  CudaRowScore* out = nullptr;            // [max_count]
};

Status score_rows(const CudaScoreArguments& arguments, CudaStream stream);

// The floats of score_token, bit for bit.
void token_score(const CudaRowScore& row, TokenScore& score);

}  // namespace liquidgemm
