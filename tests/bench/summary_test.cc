#include "bench/summary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace liquidgemm::bench {
namespace {

GemmRow row(const char* name, std::int64_t n, std::int64_t m, double ours, double rival = 0.0) {
  GemmRow row;
  row.shape = {name, n, 4096};
  row.m = m;
  row.ours = Timing{ours, 0.0};
  if (rival > 0.0) {
    row.rivals[0] = RivalTiming{{2.0 * rival, 0.0}, 1, ""};
    row.rivals[1] = RivalTiming{{rival, 0.0}, 1, ""};
  }
  return row;
}

TEST(Summary, TheLargestStepGoesToTheNextLargerNumberOfTokens) {
  // In any order, shapes mixed; the missing M = 3 is stepped over.
  const std::vector<GemmRow> rows = {row("b", 512, 9, 5.0), row("a", 256, 4, 2.0),
                                     row("a", 256, 1, 1.0), row("b", 512, 8, 4.0),
                                     row("a", 256, 2, 2.5), row("c", 128, 7, 1.0)};
  const std::vector<Step> steps = largest_steps(rows);
  ASSERT_EQ(steps.size(), 2u) << "one number of tokens makes no step";
  EXPECT_EQ(steps[0].shape.name, "b");
  EXPECT_EQ(steps[0].m, 8);
  EXPECT_EQ(steps[0].next_m, 9);
  EXPECT_DOUBLE_EQ(steps[0].ratio, 0.8);
  EXPECT_EQ(steps[1].shape.name, "a");
  EXPECT_EQ(steps[1].m, 2);
  EXPECT_EQ(steps[1].next_m, 4);
  EXPECT_DOUBLE_EQ(steps[1].ratio, 1.25);
}

TEST(Summary, CountsTheCellsAheadAndNamesTheWorst) {
  const std::vector<GemmRow> rows = {row("a", 256, 1, 1.0, 2.0), row("a", 256, 64, 1.0, 0.5),
                                     row("b", 512, 1, 1.0, 8.0), row("b", 512, 2, 1.0, 1.0),
                                     row("b", 512, 4, 1.0)};
  const auto summary = summarize(rows);
  ASSERT_TRUE(summary);
  EXPECT_EQ(summary->cells, 4);
  EXPECT_EQ(summary->ahead, 2) << "as fast is not ahead";
  EXPECT_NEAR(summary->geometric_mean, std::pow(8.0, 0.25), 1e-12);
  EXPECT_DOUBLE_EQ(summary->worst, 0.5);
  EXPECT_EQ(summary->worst_shape.name, "a");
  EXPECT_EQ(summary->worst_m, 64);
}

TEST(Summary, OnlyTheFirstScheduleCounts) {
  std::vector<GemmRow> rows = {row("a", 256, 1, 9.0, 1.0), row("a", 256, 2, 1.0, 4.0)};
  rows[0].schedule_index = 1;
  EXPECT_TRUE(largest_steps(rows).empty());
  EXPECT_EQ(summarize(rows)->cells, 1);
}

TEST(Summary, TheVariantsOfAnAblationDoNotCount) {
  std::vector<GemmRow> rows = {row("a", 256, 16, 1.0, 2.0), row("a", 256, 64, 2.0, 2.0)};
  for (GemmRow& variant : rows) variant.variant = kAblationVariants[0];
  EXPECT_TRUE(largest_steps(rows).empty());
  EXPECT_FALSE(summarize(rows));
}

TEST(Summary, WhatWasNotMeasuredIsNotSummedUp) {
  GemmRow checked = row("a", 256, 1, 1.0, 2.0);
  checked.ours.reset();
  EXPECT_FALSE(summarize({checked}));
  EXPECT_FALSE(summarize({row("a", 256, 1, 1.0)}));
  EXPECT_TRUE(largest_steps({checked, checked}).empty());
}

}  // namespace
}  // namespace liquidgemm::bench
