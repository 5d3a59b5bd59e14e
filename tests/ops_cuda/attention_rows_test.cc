// The rows that attention gives to the next linear layer: INT8 and f16 ones are its floats by the
// contract's rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/half.h"
#include "fresh_seed.h"
#include "gemm/numerics.h"
#include "ops_cuda/attention_harness.h"

namespace liquidgemm::cuda::testing {
namespace {

class CudaAttentionRows : public liquidgemm::testing::CudaTest {
 protected:
  void compare(const AttentionSizes& sizes,
               const std::vector<int>& lengths = {1, 256, 257, 600, 1800, 2900}) {
    SCOPED_TRACE(name_of(sizes) + ", rows " + std::to_string(lengths.size()));
    const RandomCache cache(sizes, lengths, random_);
    std::vector<Query> last;
    for (int i = 0; i < static_cast<int>(lengths.size()); ++i) {
      last.push_back({i, cache.length(i) - 1});
    }
    const Queries queries(cache, last, random_);
    Results rows;
    ShortRows short_rows;
    ASSERT_NO_FATAL_FAILURE(decode(cache, queries, all_of(queries), device_.multiprocessors,
                                   random_, rows, 0, &short_rows));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      float largest = 0.0f;
      for (const float x : rows[i]) largest = std::max(largest, std::fabs(x));
      const numerics::RowScale scale = numerics::row_scale(largest, true);
      EXPECT_EQ(short_rows.scales[i], scale.scale);
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < rows[i].size(); ++k) {
        const std::int8_t x8 = numerics::quantize_value(rows[i][k], scale.reciprocal);
        sum += x8;
        ASSERT_EQ(short_rows.x8[i][k], x8) << "row " << i << ", element " << k;
        ASSERT_EQ(short_rows.halves[i][k], float_to_f16(rows[i][k]))
            << "row " << i << ", element " << k;
      }
      EXPECT_EQ(short_rows.sums[i], sum);
    }
  }

  std::mt19937_64 random_{liquidgemm::testing::fresh_seed()};
};

TEST_F(CudaAttentionRows, AreTheFloatsByTheContractsRules) {
  compare({KvElement::kInt8, 2, 4, 128});
  compare({KvElement::kInt4, 3, 1, 64});
  compare({KvElement::kF16, 2, 3, 18});  // heads end within chunks of four
  compare({KvElement::kInt8, 1, 16, 80});
  compare({KvElement::kInt8Static, 2, 4, 128});
  compare({KvElement::kInt8Static, 3, 4, 22});
  compare({KvElement::kBf16, 2, 8, 64});
}

// More than a thread keeps.
TEST_F(CudaAttentionRows, MayBeWide) { compare({KvElement::kInt8, 70, 2, 128}); }

// More rows have other clusters.
TEST_F(CudaAttentionRows, MayBeMany) {
  for (const int rows : {9, 64, 65}) {
    std::vector<int> lengths;
    for (int i = 0; i < rows; ++i) lengths.push_back(1 + static_cast<int>(random_() % 700));
    lengths.back() = 2400;
    compare({KvElement::kInt4, 5, 4, 128}, lengths);
  }
}

}  // namespace
}  // namespace liquidgemm::cuda::testing
