// What many cells come to: the steps from one number of tokens to the next, and the cells that are
// ahead of the best rival. Where several schedules were asked for, the first of them counts; the
// variants of an ablation do not, because their tiles are not the planner's choice.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bench/gemm_bench.h"
#include "bench/goal_shapes.h"

namespace liquidgemm::bench {

// The fastest of cuBLASLt's products of this cell.
std::optional<double> best_rival_seconds(const GemmRow& row);

// More tokens should never be faster: `ratio` is time(m) / time(next_m).
struct Step {
  Shape shape;
  std::int64_t m = 0;
  std::int64_t next_m = 0;  // the next larger number that was measured
  double ratio = 0.0;
};

// The largest step of each shape with two or more numbers of tokens, in the rows' order of shapes.
std::vector<Step> largest_steps(const std::vector<GemmRow>& rows);

// Time of the best rival / ours over all cells that have both.
struct Summary {
  int cells = 0;
  int ahead = 0;  // above 1
  double geometric_mean = 0.0;
  double worst = 0.0;
  Shape worst_shape;
  std::int64_t worst_m = 0;
};

std::optional<Summary> summarize(const std::vector<GemmRow>& rows);

}  // namespace liquidgemm::bench
