#include "engine/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

struct RowScore {
  double negative_log_likelihood = 0.0;
  double divergence = 0.0;
  bool agrees = false;
};

// One row of logits as a distribution; exps[i] = exp(logit - best logit).
struct RowSummary {
  double log_sum = 0.0;  // log of the sum of exp(logit)
  double sum = 0.0;      // of exps
  std::int64_t best = 0;
};

RowSummary summarize(std::span<const float> logits, std::vector<float>& exps) {
  static const CpuOps& ops = cpu_ops(best_isa());
  RowSummary summary;
  const auto best = std::max_element(logits.begin(), logits.end());
  summary.best = best - logits.begin();
  exps.resize(logits.size());
  ops.exp_minus(logits.data(), *best, exps.data(), static_cast<std::int64_t>(logits.size()));
  for (const float value : exps) summary.sum += static_cast<double>(value);
  summary.log_sum = static_cast<double>(*best) + std::log(summary.sum);
  return summary;
}

// KL(p || q) = sum_i p_i (log p_i - log q_i) with log p_i = a_i - log_sum_a, log q_i likewise.
double divergence(std::span<const float> a, const RowSummary& a_summary,
                  std::span<const float> exps, std::span<const float> b,
                  const RowSummary& b_summary) {
  double total = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    total += static_cast<double>(exps[i]) * (static_cast<double>(a[i]) - static_cast<double>(b[i]));
  }
  return total / a_summary.sum - a_summary.log_sum + b_summary.log_sum;
}

// One worker's memory.
struct ScoreScratch {
  std::vector<float> reference;
  std::vector<float> other;
};

// Scores row `row` of every backend; the first is the reference.
void score_row(std::span<Backend* const> backends, std::int64_t row, TokenId target,
               ScoreScratch& scratch, RowScore* scores) {
  const auto at = static_cast<std::size_t>(target);
  const std::span<const float> reference = backends[0]->logits(row);
  const RowSummary summary = summarize(reference, scratch.reference);
  scores[0] = {.negative_log_likelihood = summary.log_sum - static_cast<double>(reference[at]),
               .divergence = 0.0,
               .agrees = true};
  for (std::size_t b = 1; b < backends.size(); ++b) {
    const std::span<const float> logits = backends[b]->logits(row);
    const RowSummary other = summarize(logits, scratch.other);
    scores[b] = {.negative_log_likelihood = other.log_sum - static_cast<double>(logits[at]),
                 .divergence = divergence(reference, summary, scratch.reference, logits, other),
                 .agrees = other.best == summary.best};
  }
}

}  // namespace

Result<std::vector<PerplexityRow>> measure_perplexity(
    std::span<Backend* const> backends, std::span<const TokenId> tokens,
    const PerplexityOptions& options, ThreadPool& pool,
    const std::function<void(std::int64_t)>& advance, const std::atomic<bool>& interrupt) {
  if (options.context < 2) {
    return invalid_argument("context: expected at least 2 tokens, found " +
                            std::to_string(options.context));
  }
  if (options.tokens < 1) {
    return invalid_argument("tokens: expected at least 1, found " + std::to_string(options.tokens));
  }
  if (tokens.size() < 2) return invalid_argument("the text has fewer than two tokens");
  std::int64_t chunk = options.context;
  for (const Backend* backend : backends) {
    const BackendLimits& limits = backend->limits();
    if (options.context > limits.max_position || options.context > limits.pages * kPageTokens) {
      return invalid_argument("context: " + std::to_string(options.context) +
                              " tokens, the model takes " + std::to_string(limits.max_position));
    }
    chunk = std::min({chunk, limits.max_rows, limits.max_logits_rows});
  }
  std::vector<std::int32_t> pages(static_cast<std::size_t>(pages_for(options.context)));
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<std::int32_t> all_rows(static_cast<std::size_t>(chunk));
  std::iota(all_rows.begin(), all_rows.end(), 0);

  std::vector<PerplexityRow> rows(backends.size());
  std::vector<ScoreScratch> scratch(static_cast<std::size_t>(pool.threads()));
  std::vector<RowScore> scores(static_cast<std::size_t>(chunk) * backends.size());
  std::int64_t scored = 0;
  const auto total = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t window = 0; window + 1 < total && scored < options.tokens;
       window += options.context) {
    const std::int64_t length = std::min(options.context, total - window);
    for (std::int64_t first = 0; first + 1 < length; first += chunk) {
      if (interrupt.load(std::memory_order_relaxed)) return cancelled("interrupted");
      const std::int64_t count = std::min(chunk, length - first);
      const SequenceRows sequence{.first_row = 0,
                                  .rows = static_cast<std::int32_t>(count),
                                  .context = static_cast<std::int32_t>(first),
                                  .pages = pages};
      const auto begin = static_cast<std::size_t>(window + first);
      for (std::size_t b = 0; b < backends.size(); ++b) {
        const auto start = std::chrono::steady_clock::now();
        LIQUIDGEMM_RETURN_IF_ERROR(backends[b]->step(
            {.tokens = tokens.subspan(begin, static_cast<std::size_t>(count)),
             .sequences = {&sequence, 1},
             .logits_rows = std::span(all_rows).first(static_cast<std::size_t>(count)),
             .samples = {}}));
        rows[b].seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      }
      // The last row of a window predicts a token that is not part of it.
      const std::int64_t predicting = std::min(count, length - 1 - first);
      pool.parallel_for(predicting, 1, [&](std::int64_t from, std::int64_t to, int worker) {
        for (std::int64_t i = from; i < to; ++i) {
          const TokenId target = tokens[begin + static_cast<std::size_t>(i) + 1];
          score_row(backends, i, target, scratch[static_cast<std::size_t>(worker)],
                    scores.data() + static_cast<std::size_t>(i) * backends.size());
        }
      });
      // Added up in order, so that the figures do not depend on the number of threads.
      for (std::int64_t i = 0; i < predicting; ++i) {
        for (std::size_t b = 0; b < backends.size(); ++b) {
          const RowScore& row = scores[static_cast<std::size_t>(i) * backends.size() + b];
          rows[b].negative_log_likelihood += row.negative_log_likelihood;
          rows[b].top1_agreement += row.agrees ? 1.0 : 0.0;
          rows[b].divergence += row.divergence;
        }
      }
      scored += predicting;
      if (advance) advance(predicting);
    }
  }
  for (PerplexityRow& row : rows) {
    row.scored = scored;
    row.negative_log_likelihood /= static_cast<double>(scored);
    row.top1_agreement /= static_cast<double>(scored);
    row.divergence /= static_cast<double>(scored);
    row.perplexity = std::exp(row.negative_log_likelihood);
  }
  return rows;
}

}  // namespace liquidgemm
