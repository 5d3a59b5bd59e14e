#include "bench/summary.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

namespace liquidgemm::bench {
namespace {

// The planner's choice, or the first schedule asked for; a variant of an ablation is neither.
bool counts(const GemmRow& row) {
  return row.ours && row.schedule_index == 0 && row.variant.empty();
}

}  // namespace

std::optional<double> best_rival_seconds(const GemmRow& row) {
  std::optional<double> best;
  for (const auto& rival : row.rivals) {
    if (rival) best = std::min(best.value_or(rival->timing.seconds), rival->timing.seconds);
  }
  return best;
}

std::vector<Step> largest_steps(const std::vector<GemmRow>& rows) {
  struct Sweep {
    Shape shape;
    std::map<std::int64_t, double> seconds;  // by tokens
  };
  std::vector<Sweep> sweeps;
  for (const GemmRow& row : rows) {
    if (!counts(row)) continue;
    const auto same = [&](const Sweep& sweep) {
      return sweep.shape.n == row.shape.n && sweep.shape.k == row.shape.k;
    };
    auto sweep = std::find_if(sweeps.begin(), sweeps.end(), same);
    if (sweep == sweeps.end()) sweep = sweeps.insert(sweeps.end(), Sweep{row.shape, {}});
    sweep->seconds.emplace(row.m, row.ours->seconds);
  }
  std::vector<Step> steps;
  for (const Sweep& sweep : sweeps) {
    Step largest;
    largest.shape = sweep.shape;
    for (auto here = sweep.seconds.begin(); here != sweep.seconds.end(); ++here) {
      const auto next = std::next(here);
      if (next == sweep.seconds.end()) break;
      const double ratio = here->second / next->second;
      if (ratio <= largest.ratio) continue;
      largest.m = here->first;
      largest.next_m = next->first;
      largest.ratio = ratio;
    }
    if (largest.ratio > 0.0) steps.push_back(std::move(largest));
  }
  return steps;
}

std::optional<Summary> summarize(const std::vector<GemmRow>& rows) {
  Summary summary;
  double logarithms = 0.0;
  for (const GemmRow& row : rows) {
    const auto rival = best_rival_seconds(row);
    if (!counts(row) || !rival) continue;
    const double ratio = *rival / row.ours->seconds;
    logarithms += std::log(ratio);
    if (ratio > 1.0) ++summary.ahead;
    if (summary.cells++ > 0 && ratio >= summary.worst) continue;
    summary.worst = ratio;
    summary.worst_shape = row.shape;
    summary.worst_m = row.m;
  }
  if (summary.cells == 0) return std::nullopt;
  summary.geometric_mean = std::exp(logarithms / summary.cells);
  return summary;
}

}  // namespace liquidgemm::bench
