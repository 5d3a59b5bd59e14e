#include "engine/page_pool.h"

#include <gtest/gtest.h>

namespace liquidgemm {
namespace {

TEST(PagePool, FreePagesGoFirstThenCachedOnesInTheOrderOfTheirRelease) {
  PagePool pool(4);
  for (const std::int32_t page : {0, 1, 2, 3}) {
    const auto taken = pool.take();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->page, page);
    EXPECT_FALSE(taken->was_cached);
  }
  EXPECT_FALSE(pool.take());
  EXPECT_EQ(pool.used(), 4);

  for (const std::int32_t page : {0, 1, 2}) pool.keep(page);
  for (const std::int32_t page : {2, 0, 3, 1}) pool.release(page);
  EXPECT_EQ(pool.cached(), 3);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_TRUE(pool.is_cached(2));
  EXPECT_FALSE(pool.is_cached(3));

  // A hit on 2 takes it out of the order; given back, it is the last.
  pool.hold(2);
  EXPECT_EQ(pool.used(), 1);
  pool.release(2);
  for (const auto& [page, was_cached] :
       {std::pair{3, false}, std::pair{0, true}, std::pair{1, true}, std::pair{2, true}}) {
    const auto taken = pool.take();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->page, page);
    EXPECT_EQ(taken->was_cached, was_cached);
  }
  // What was evicted is an ordinary page again.
  pool.release(0);
  EXPECT_EQ(pool.free(), 1);
}

TEST(PagePool, APageIsUsedUntilItsLastHolderGoes) {
  PagePool pool(1);
  const std::int32_t page = pool.take()->page;
  pool.hold(page);
  pool.hold(page);
  for (const int left : {2, 1}) {
    pool.release(page);
    EXPECT_EQ(pool.holders(page), left);
    EXPECT_FALSE(pool.take());
  }
  pool.release(page);
  EXPECT_EQ(pool.used(), 0);
  EXPECT_TRUE(pool.take());
}

}  // namespace
}  // namespace liquidgemm
