// The middle of measured values: one slow moment of the machine does not move it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace liquidgemm {

// The larger of the two middle ones when their number is even; 0 of none.
template <class T>
T median(std::vector<T> values) {
  if (values.empty()) return {};
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace liquidgemm
