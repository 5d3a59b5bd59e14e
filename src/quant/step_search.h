// The exact search for a group's step and offset (StepRule::kSearch).
#pragma once

#include <cstdint>
#include <span>

#include "quant/liquid_quant.h"

namespace liquidgemm {

inline constexpr int kMaxGroup = 128;

// What a byte means: the stored offset a stands for the level a - 128.
inline constexpr int kLevelBias = 128;
// q * s + a <= 255 says that no code may stand for a level above this one.
inline constexpr int kTopLevel = 255 - kLevelBias;

// The largest valid code of a grid that starts at level `origin`.
inline int largest_code(int origin, int step) {
  const int room = kTopLevel - origin;
  return room >= kMaxCode * step ? kMaxCode : room / step;
}

// The valid code nearest to `level`, the smaller one when two are equally near.
int nearest_code(float level, int origin, int step);

// sum importance * (level - nearest valid grid point)^2, every term and sum in double, ascending.
// Empty importance means 1 for each level.
double group_error(std::span<const float> levels, std::span<const float> importance,
                   GroupParameters parameters);

// The pair with the least group_error of all 16 x 256. Of equal ones the smaller step wins, then
// the larger offset (it leaves the smaller codes). At most kMaxGroup levels in [-119, 119].
GroupParameters search_step(std::span<const float> levels, std::span<const float> importance);

}  // namespace liquidgemm
