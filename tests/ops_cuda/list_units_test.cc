// The list of what decode attention computes: everything once, the longest first. Needs no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "fresh_seed.h"
#include "ops/cuda/attention.h"

namespace liquidgemm::cuda::testing {
namespace {

TEST(ListUnits, EverySplitOnceTheLongestFirst) {
  std::mt19937_64 random(liquidgemm::testing::fresh_seed());
  for (int round = 0; round < 200; ++round) {
    const std::size_t count = random() % 40;
    std::vector<std::int32_t> rows(count + 5);
    std::iota(rows.begin(), rows.end(), 0);
    std::shuffle(rows.begin(), rows.end(), random);
    std::vector<DecodeSequence> sequences;
    std::map<std::int32_t, DecodeSequence> by_slot;
    std::int64_t expected = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const int longest = random() % 2 == 0 ? 300 : 3000;
      const auto length = static_cast<std::int32_t>(1 + random() % longest);
      sequences.push_back({static_cast<std::int32_t>(2 * i), rows[i], length});
      by_slot[sequences.back().slot] = sequences.back();
      expected += attention_splits(length);
    }
    std::vector<AttentionUnit> units(static_cast<std::size_t>(expected));
    std::vector<RowSplits> splits(rows.size(), RowSplits{-1, -1});
    ASSERT_EQ(list_units(sequences, units.data(), splits.data()), expected);

    std::vector<bool> taken(units.size(), false);
    std::int32_t longest = kSplitPages;
    for (const AttentionUnit& unit : units) {
      ASSERT_TRUE(by_slot.count(unit.slot));
      const DecodeSequence& sequence = by_slot[unit.slot];
      const RowSplits& of_row = splits[static_cast<std::size_t>(sequence.row)];
      ASSERT_EQ(of_row.splits, attention_splits(sequence.length));
      ASSERT_TRUE(unit.split >= 0 && unit.split < of_row.splits);
      ASSERT_EQ(unit.partial, of_row.first_partial + unit.split);
      ASSERT_FALSE(taken.at(static_cast<std::size_t>(unit.partial)));
      taken[static_cast<std::size_t>(unit.partial)] = true;
      const std::int32_t tokens = sequence.length - unit.split * numerics::kAttentionSplit;
      const std::int32_t pages =
          std::min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
      ASSERT_LE(pages, longest);
      longest = pages;
    }
    for (std::size_t i = count; i < rows.size(); ++i) {
      ASSERT_EQ(splits[static_cast<std::size_t>(rows[i])].splits, -1) << "not a row of the list";
    }
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
