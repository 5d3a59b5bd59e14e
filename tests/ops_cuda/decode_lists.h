// The lists that decode attention and its rows read (ops/cuda/attention.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/cuda/attention.h"

namespace liquidgemm::cuda::testing {

struct DecodeLists {
  std::vector<DecodeSequence> sequences;
  std::vector<AttentionUnit> units;
  std::vector<RowSplits> splits;  // of each row

  // A sequence of `length` tokens, whose query and result are row `row`.
  void add(int slot, int row, int length) {
    sequences.push_back({slot, row, length});
    units.resize(units.size() + static_cast<std::size_t>(attention_splits(length)));
    if (splits.size() <= static_cast<std::size_t>(row)) splits.resize(row + 1, RowSplits{});
    list_units(sequences, units.data(), splits.data());
  }
};

}  // namespace liquidgemm::cuda::testing
