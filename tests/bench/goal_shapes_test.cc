#include "bench/goal_shapes.h"

#include <gtest/gtest.h>

namespace liquidgemm::bench {
namespace {

using Tokens = std::vector<std::int64_t>;

Tokens tokens_of(const char* text) {
  auto tokens = parse_tokens(text);
  EXPECT_TRUE(tokens.ok()) << tokens.status().to_string();
  return tokens.ok() ? *tokens : Tokens{};
}

TEST(GoalShapes, ARangeOfTokensHoldsBothEnds) {
  EXPECT_EQ(tokens_of("64"), Tokens{64});
  EXPECT_EQ(tokens_of("7-7"), Tokens{7});
  EXPECT_EQ(tokens_of("1-5"), (Tokens{1, 2, 3, 4, 5}));
  const Tokens sweep = tokens_of("1-512");
  ASSERT_EQ(sweep.size(), 512u);
  EXPECT_EQ(sweep.front(), 1);
  EXPECT_EQ(sweep.back(), 512);
}

TEST(GoalShapes, AStepNeedNotMeetTheEnd) {
  EXPECT_EQ(tokens_of("32-64:8"), (Tokens{32, 40, 48, 56, 64}));
  EXPECT_EQ(tokens_of("32-63:8"), (Tokens{32, 40, 48, 56}));
  EXPECT_EQ(tokens_of("5-6:9223372036854775807"), Tokens{5});
}

TEST(GoalShapes, OneRangeIsBounded) {
  EXPECT_EQ(tokens_of("1-4096").size(), 4096u);
  EXPECT_FALSE(parse_tokens("1-4097").ok());
  EXPECT_EQ(tokens_of("1-1048576:256").size(), 4096u);
}

TEST(GoalShapes, NothingOfBetweenIsTunedFor) {
  for (const std::int64_t m : tokens_of("between")) {
    for (const std::int64_t goal : goal_tokens()) EXPECT_NE(m, goal);
  }
  const auto shapes = parse_shape("others");
  ASSERT_TRUE(shapes.ok());
  EXPECT_EQ(shapes->size(), 5u);
  for (const Shape& shape : *shapes) {
    const auto same = parse_shape(shape.name);  // the name says the size
    ASSERT_TRUE(same.ok());
    EXPECT_EQ((*same)[0].n, shape.n);
    EXPECT_EQ((*same)[0].k, shape.k);
    for (const Shape& goal : goal_shapes()) {
      EXPECT_FALSE(shape.n == goal.n && shape.k == goal.k) << shape.name;
    }
  }
}

}  // namespace
}  // namespace liquidgemm::bench
