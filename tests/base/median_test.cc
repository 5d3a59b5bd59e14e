#include "base/median.h"

#include <gtest/gtest.h>

namespace liquidgemm {
namespace {

TEST(Median, IsTheMiddleInAnyOrder) {
  EXPECT_EQ(median(std::vector<double>{3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(median(std::vector<int>{7}), 7);
}

TEST(Median, IsTheLargerOfTwoMiddleOnes) {
  EXPECT_EQ(median(std::vector<unsigned>{4, 1, 3, 2}), 3u);
}

TEST(Median, OfNoneIsZero) { EXPECT_EQ(median(std::vector<double>{}), 0.0); }

}  // namespace
}  // namespace liquidgemm
