// The lists that decode attention and its rows read (ops/cuda/attention.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/cuda/attention.h"

namespace liquidgemm::cuda::testing {

struct DecodeLists {
  int kv_heads = 1;
  int teams = 0;  // of list_units
  std::vector<DecodeSequence> sequences;
  std::vector<AttentionUnit> units;
  std::vector<RowSplits> splits;  // of each row
  std::int32_t count = 0;         // of the units

  // A sequence of `length` tokens, whose query and result are row `row`.
  void add(int slot, int row, int length) {
    sequences.push_back({slot, row, length});
    units.resize(units.size() + static_cast<std::size_t>(attention_splits(length)));
    if (splits.size() <= static_cast<std::size_t>(row)) splits.resize(row + 1, RowSplits{});
    count = list_units(sequences, kv_heads, teams, units.data(), splits.data());
  }
};

}  // namespace liquidgemm::cuda::testing
