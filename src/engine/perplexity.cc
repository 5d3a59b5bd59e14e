#include "engine/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/status_macros.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

// What scoring needs of one row of logits.
struct RowSummary {
  double log_sum = 0.0;  // log of the sum of exp(logit)
  std::int64_t best = 0;
};

RowSummary summarize(std::span<const float> logits) {
  RowSummary summary;
  const auto best = std::max_element(logits.begin(), logits.end());
  summary.best = best - logits.begin();
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - *best));
  summary.log_sum = static_cast<double>(*best) + std::log(sum);
  return summary;
}

struct RowScore {
  double negative_log_likelihood = 0.0;
  double divergence = 0.0;
  bool agrees = false;
};

RowScore score(std::span<const float> reference, std::span<const float> logits, TokenId target) {
  const RowSummary summary = summarize(logits);
  RowScore result;
  result.negative_log_likelihood =
      summary.log_sum - static_cast<double>(logits[static_cast<std::size_t>(target)]);
  result.agrees = true;
  if (logits.data() == reference.data()) return result;
  const RowSummary reference_summary = summarize(reference);
  result.agrees = summary.best == reference_summary.best;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - reference_summary.log_sum;
    if (log_p < -40.0) continue;  // less than 1e-17 of the whole
    const double log_q = static_cast<double>(logits[i]) - summary.log_sum;
    result.divergence += std::exp(log_p) * (log_p - log_q);
  }
  return result;
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
  std::vector<std::int32_t> pages(
      static_cast<std::size_t>((options.context + kPageTokens - 1) / kPageTokens));
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<std::int32_t> all_rows(static_cast<std::size_t>(chunk));
  std::iota(all_rows.begin(), all_rows.end(), 0);

  std::vector<PerplexityRow> rows(backends.size());
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
      const auto scores_of = [&](std::int64_t i, std::size_t b) -> RowScore& {
        return scores[static_cast<std::size_t>(i) * backends.size() + b];
      };
      pool.parallel_for(predicting, 1, [&](std::int64_t from, std::int64_t to, int) {
        for (std::int64_t i = from; i < to; ++i) {
          const TokenId target = tokens[begin + static_cast<std::size_t>(i) + 1];
          for (std::size_t b = 0; b < backends.size(); ++b) {
            scores_of(i, b) = score(backends[0]->logits(i), backends[b]->logits(i), target);
          }
        }
      });
      // Added up in order, so that the figures do not depend on the number of threads.
      for (std::int64_t i = 0; i < predicting; ++i) {
        for (std::size_t b = 0; b < backends.size(); ++b) {
          const RowScore& row = scores_of(i, b);
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
