// Attention on the GPU against plain sums in double, and against itself: bit for bit whatever the
// kernel, the company and the order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "fresh_seed.h"
#include "ops_cuda/attention_harness.h"

namespace liquidgemm::cuda::testing {
namespace {

// In units of the spread (Queries::expected). Rounding a token's weight to f16 moves it by up to
// 2^-11, independently of the others; so a row moves by less than 2^-11 of its spread where one
// token rules it, and seldom by half of that where many do. What is rounded to float is far below.
// bf16 has three bits less.
double tolerance(KvElement element) { return element == KvElement::kBf16 ? 0x1p-7 : 0x1p-10; }

class CudaAttention : public liquidgemm::testing::CudaTest {
 protected:
  std::mt19937_64 random_{liquidgemm::testing::fresh_seed()};
};

TEST_F(CudaAttention, DecodeIsWhatDoubleSays) {
  for (const KvElement element : kElements) {
    double largest = 0;
    for (const int head_dim : {16, 18, 64, 80, 128}) {
      for (const int group : {1, 3, 4, 7, 8, 16}) {
        const AttentionSizes sizes{element, 2, group, head_dim};
        SCOPED_TRACE(name_of(sizes));
        const RandomCache cache(sizes, {1, 63, 64, 65, 255, 256, 257, 1000}, random_);
        std::vector<Query> last;
        for (int i = 0; i < 8; ++i) last.push_back({i, cache.length(i) - 1});
        const Queries queries(cache, last, random_);
        Results results;
        ASSERT_NO_FATAL_FAILURE(
            decode(cache, queries, all_of(queries), device_.multiprocessors, random_, results));
        for (const int team : {1, 2, 4}) {
          Results of_team;
          ASSERT_NO_FATAL_FAILURE(decode(cache, queries, all_of(queries), device_.multiprocessors,
                                         random_, of_team, team));
          EXPECT_EQ(of_team, results) << "by teams of " << team;
        }
        for (std::size_t i = 0; i < queries.count(); ++i) {
          const double apart = distance(queries, i, results[i]);
          EXPECT_LT(apart, tolerance(element))
              << "of " << cache.length(static_cast<int>(i)) << " tokens";
          largest = std::max(largest, apart);
        }
        EXPECT_TRUE(cache.unchanged());
        if (HasFailure()) return;
      }
    }
    std::printf("%s: at most %.2f of what is allowed\n", element_name(element),
                largest / tolerance(element));
  }
}

// More units than teams, so that every ring of pages wraps around and units follow each other.
TEST_F(CudaAttention, DecodeOfManyIsDecodeOfEachAlone) {
  for (const KvElement element : kElements) {
    for (const int head_dim : {64, 128}) {
      for (const int group : {1, 4, 7, 12}) {
        const AttentionSizes sizes{element, 3, group, head_dim};
        SCOPED_TRACE(name_of(sizes));
        const RandomCache cache(sizes, {1500, 700, 70}, random_);
        std::vector<Query> some;
        for (int i = 0; i < 300; ++i) {
          const int sequence = i % 3;
          std::uniform_int_distribution<int> position(0, cache.length(sequence) - 1);
          some.push_back({sequence, position(random_)});
        }
        const Queries queries(cache, some, random_);
        Results together, again, alone;
        ASSERT_NO_FATAL_FAILURE(
            decode(cache, queries, all_of(queries), device_.multiprocessors, random_, together));
        // On few multiprocessors, so that each team has many units.
        for (const int team : {1, 2, 4}) {
          ASSERT_NO_FATAL_FAILURE(decode(cache, queries, all_of(queries), 2, random_, again, team));
          EXPECT_EQ(together, again) << "by teams of " << team;
        }
        for (std::size_t i = 0; i < queries.count(); i += 29) {
          ASSERT_NO_FATAL_FAILURE(
              decode(cache, queries, {i}, device_.multiprocessors, random_, alone));
          EXPECT_EQ(together[i], alone[i]) << "position " << queries[i].position;
        }
        if (HasFailure()) return;
      }
    }
  }
}

TEST(CudaAttentionShapes, RefusesWhatItCannotDo) {
  const KvPageShape shape{KvElement::kInt8, 128, 8, 32};
  EXPECT_TRUE(is_ok(can_attend(shape, 32, 128)));
  EXPECT_TRUE(is_ok(can_attend(shape, 8, 65)));
  EXPECT_FALSE(can_attend(shape, 32, 129).ok());
  EXPECT_FALSE(can_attend(shape, 32, 64).ok());
  EXPECT_FALSE(can_attend(shape, 33, 128).ok());
  EXPECT_FALSE(can_attend(shape, 8 * 17, 128).ok());
  EXPECT_FALSE(can_attend(shape, 32, 0).ok());
  EXPECT_TRUE(is_ok(can_finish_attention(384, 128)));
  EXPECT_TRUE(is_ok(can_finish_attention(2, 18)));
  for (const auto& [heads, head_dim] : {std::pair(0, 128), {1, 18}, {512, 128}, {4096, 8}}) {
    EXPECT_EQ(can_finish_attention(heads, head_dim).code(), StatusCode::kUnsupported) << heads;
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
