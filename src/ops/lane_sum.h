// Sums of many floats in an order that depends on their number alone.
#pragma once

#include <cstddef>

namespace liquidgemm {

// Eight running sums in double: a fixed order that vectorises.
inline double sum_of(const float* e, std::size_t count) {
  double lanes[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int l = 0; l < 8; ++l) lanes[l] += static_cast<double>(e[i + l]);
  }
  for (; i < count; ++i) lanes[0] += static_cast<double>(e[i]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace liquidgemm
