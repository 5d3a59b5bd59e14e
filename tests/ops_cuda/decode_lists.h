// The lists that decode attention and its rows read (ops/cuda/attention.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/cuda/attention.h"

namespace liquidgemm::cuda::testing {

struct DecodeLists {
  std::vector<AttentionUnit> units;
  std::vector<RowSplits> splits;  // of each row

  // A sequence of `length` tokens, whose query and result are row `row`.
  void add(int slot, int row, int length) {
    const auto count = static_cast<std::int32_t>(attention_splits(length));
    const auto at = static_cast<std::size_t>(row);
    if (splits.size() <= at) splits.resize(at + 1);
    splits[at] = {static_cast<std::int32_t>(units.size()), count};
    for (std::int32_t split = 0; split < count; ++split) units.push_back({slot, split});
  }
};

}  // namespace liquidgemm::cuda::testing
