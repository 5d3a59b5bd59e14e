// The list of what decode attention computes: every split once, the longest units first, and the
// same work for each team. Needs no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "fresh_seed.h"
#include "ops/cuda/attention.h"

namespace liquidgemm::cuda::testing {
namespace {

struct Listed {
  std::vector<DecodeSequence> sequences;
  std::vector<AttentionUnit> units;
  std::vector<RowSplits> splits;

  Listed(std::vector<DecodeSequence> all, std::size_t rows, int kv_heads, int teams)
      : sequences(std::move(all)), splits(rows, RowSplits{-1, -1}) {
    std::int64_t most = 0;
    for (const DecodeSequence& sequence : sequences) most += attention_splits(sequence.length);
    units.resize(static_cast<std::size_t>(most));
    const std::int32_t count = list_units(sequences, kv_heads, teams, units.data(), splits.data());
    EXPECT_LE(count, most);
    units.resize(static_cast<std::size_t>(count));
  }

  std::int32_t pages(const AttentionUnit& unit) const {
    const auto of = std::find_if(sequences.begin(), sequences.end(),
                                 [&](const auto& each) { return each.slot == unit.slot; });
    const std::int32_t tokens = std::min(of->length - unit.split * numerics::kAttentionSplit,
                                         unit.splits * numerics::kAttentionSplit);
    return (tokens + kKvPageTokens - 1) / kKvPageTokens;
  }
  // How many pages the team with most has above the mean.
  double longest_above_mean(int kv_heads, int teams) const {
    std::vector<std::int32_t> load(static_cast<std::size_t>(teams), 0);
    for (std::size_t i = 0; i < units.size() * static_cast<std::size_t>(kv_heads); ++i) {
      load[i % load.size()] += pages(units[i / static_cast<std::size_t>(kv_heads)]);
    }
    const double sum = std::accumulate(load.begin(), load.end(), 0.0);
    return *std::max_element(load.begin(), load.end()) - sum / teams;
  }
};

TEST(ListUnits, EverySplitOnceTheLongestFirst) {
  std::mt19937_64 random(liquidgemm::testing::fresh_seed());
  for (int round = 0; round < 500; ++round) {
    const std::size_t count = random() % 40;
    std::vector<std::int32_t> rows(count + 5);
    std::iota(rows.begin(), rows.end(), 0);
    std::shuffle(rows.begin(), rows.end(), random);
    std::vector<DecodeSequence> sequences;
    std::map<std::int32_t, DecodeSequence> by_slot;
    const int shortest = random() % 2 == 0 ? 1 : 700, apart = random() % 2 == 0 ? 300 : 3000;
    for (std::size_t i = 0; i < count; ++i) {
      const auto length = static_cast<std::int32_t>(shortest + random() % apart);
      sequences.push_back({static_cast<std::int32_t>(2 * i), rows[i], length});
      by_slot[sequences.back().slot] = sequences.back();
    }
    const int kv_heads = 1 + static_cast<int>(random() % 8);
    const int teams = static_cast<int>(random() % 100);
    const Listed listed(sequences, rows.size(), kv_heads, teams);

    std::map<std::int32_t, std::vector<bool>> done;
    std::vector<bool> places(listed.units.size(), false);
    bool whole = true;
    std::int32_t longest = kSplitPages;
    for (const AttentionUnit& unit : listed.units) {
      ASSERT_TRUE(by_slot.count(unit.slot));
      const DecodeSequence& sequence = by_slot[unit.slot];
      const auto of_sequence = static_cast<std::int32_t>(attention_splits(sequence.length));
      const RowSplits& of_row = listed.splits[static_cast<std::size_t>(sequence.row)];
      std::vector<bool>& splits = done[unit.slot];
      splits.resize(static_cast<std::size_t>(of_sequence));
      ASSERT_TRUE(unit.split >= 0 && unit.splits >= 1 && unit.split + unit.splits <= of_sequence);
      for (std::int32_t i = 0; i < unit.splits; ++i) {
        ASSERT_FALSE(splits[static_cast<std::size_t>(unit.split + i)]);
        splits[static_cast<std::size_t>(unit.split + i)] = true;
      }
      if (unit.partial < 0) {
        ASSERT_EQ(unit.splits, of_sequence);
        ASSERT_EQ(of_row.splits, 1);
        ASSERT_TRUE(unit.splits == 1 || (whole && teams > 0)) << "behind single splits";
      } else {
        ASSERT_EQ(unit.splits, 1);
        ASSERT_EQ(of_row.splits, of_sequence);
        ASSERT_EQ(unit.partial, of_row.first_partial + unit.split);
        ASSERT_FALSE(places.at(static_cast<std::size_t>(unit.partial)));
        places[static_cast<std::size_t>(unit.partial)] = true;
      }
      if (unit.splits == 1) {
        whole = whole && unit.partial < 0;
        ASSERT_TRUE(whole || listed.pages(unit) <= longest);
        longest = whole ? kSplitPages : listed.pages(unit);
      }
    }
    ASSERT_EQ(done.size(), count);
    for (const auto& [slot, splits] : done) {
      ASSERT_EQ(std::count(splits.begin(), splits.end(), true),
                attention_splits(by_slot[slot].length));
    }
    for (std::size_t i = count; i < rows.size(); ++i) {
      ASSERT_EQ(listed.splits[static_cast<std::size_t>(rows[i])].splits, -1) << "not in the list";
    }
  }
}

// Sequences alike: each team takes as many of them whole as all teams can, and then splits.
TEST(ListUnits, TeamsHaveTheSameWork) {
  std::mt19937_64 random(liquidgemm::testing::fresh_seed());
  struct Case {
    std::int32_t sequences;
    int kv_heads, teams;
    std::size_t whole;
  };
  for (const Case& each :
       {Case{256, 8, 1584, 198}, Case{256, 8, 792, 198}, Case{194, 32, 1584, 148},
        Case{64, 8, 1584, 0}, Case{198, 8, 1584, 198}}) {
    std::vector<DecodeSequence> sequences;
    for (std::int32_t i = 0; i < each.sequences; ++i) {
      sequences.push_back({i, i, static_cast<std::int32_t>(1200 + random() % 100)});
    }
    const Listed listed(sequences, sequences.size(), each.kv_heads, each.teams);
    const auto whole = std::count_if(listed.units.begin(), listed.units.end(),
                                     [](const AttentionUnit& unit) { return unit.splits > 1; });
    EXPECT_EQ(static_cast<std::size_t>(whole), each.whole);
    if (listed.units.size() * static_cast<std::size_t>(each.kv_heads) <
        static_cast<std::size_t>(each.teams)) {
      continue;
    }
    EXPECT_LE(listed.longest_above_mean(each.kv_heads, each.teams), kSplitPages)
        << each.sequences << " sequences, " << each.kv_heads << " heads, " << each.teams
        << " teams";
  }
}

// Sequences of all lengths: no team gets one that keeps it busy long after the others.
TEST(ListUnits, LongSequencesAreCut) {
  std::vector<DecodeSequence> sequences;
  for (std::int32_t i = 0; i < 256; ++i) sequences.push_back({i, i, 100 + 40 * i});
  const Listed listed(sequences, sequences.size(), 8, 1584);
  for (const AttentionUnit& unit : listed.units) EXPECT_EQ(unit.splits, 1);
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
