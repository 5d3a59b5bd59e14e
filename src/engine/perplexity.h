// Perplexity and agreement of several precisions of one model over the same text, in lockstep.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "liquidgemm/status.h"
#include "model/backend.h"

namespace liquidgemm {

struct PerplexityOptions {
  std::int64_t tokens = 4096;  // scored tokens, at least
  std::int64_t context = 512;  // tokens of a window; each window starts afresh
};

struct PerplexityRow {
  double perplexity = 0.0;  // exp of the mean negative log-likelihood
  double negative_log_likelihood = 0.0;
  double top1_agreement = 0.0;  // share of positions whose best token is the reference's
  double divergence = 0.0;      // mean Kullback-Leibler divergence from the reference, in nats
  double seconds = 0.0;
  std::int64_t scored = 0;
};

// The text's tokens are cut into consecutive windows of `context` tokens; in each, every token but
// the first is scored. The first backend is the reference. `advance` is called with the number of
// tokens done; `pool` does the scoring. Errors: text too short for one window of two tokens, a
// context that a backend's limits do not take, kCancelled on interrupt.
Result<std::vector<PerplexityRow>> measure_perplexity(
    std::span<Backend* const> backends, std::span<const TokenId> tokens,
    const PerplexityOptions& options, ThreadPool& pool,
    const std::function<void(std::int64_t)>& advance, const std::atomic<bool>& interrupt);

}  // namespace liquidgemm
