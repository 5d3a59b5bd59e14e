#include "ops/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "fresh_seed.h"

namespace liquidgemm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenScore score(const std::vector<float>& logits, std::int32_t token, std::int32_t top) {
  TokenScore result;
  score_token(logits, token, top, result);
  return result;
}

TEST(Logprobs, EqualALongSumAndASort) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 300; ++round) {
    std::vector<float> logits(1 + random() % 3000);
    std::normal_distribution<float> normal(0.0f, 0.1f + static_cast<float>(random() % 100) / 10);
    for (float& x : logits) x = normal(random);
    if (round % 3 == 0) {
      for (float& x : logits) x = std::round(x);  // many ties
    }
    if (round % 5 == 0) logits[random() % logits.size()] = -kInfinity;
    if (!std::any_of(logits.begin(), logits.end(), [](float x) { return x > -kInfinity; }))
      continue;
    const auto token = static_cast<std::int32_t>(random() % logits.size());
    const auto top = static_cast<std::int32_t>(random() % (kMaxLogprobs + 1));
    const TokenScore found = score(logits, token, top);

    const long double max = *std::max_element(logits.begin(), logits.end());
    long double sum = 0.0L;
    for (const float x : logits) sum += std::exp(static_cast<long double>(x) - max);
    const auto expected = [&](std::int32_t t) {
      return static_cast<double>(logits[static_cast<std::size_t>(t)] - max - std::log(sum));
    };
    const auto near = [&](float value, std::int32_t t) {
      const double wanted = expected(t);
      return std::isinf(wanted) ? value == -kInfinity
                                : std::abs(value - wanted) <= 1e-6 * (1.0 + std::abs(wanted));
    };
    ASSERT_TRUE(near(found.logprob, token)) << found.logprob << " " << expected(token);
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
    });
    std::erase_if(order, [&](std::int32_t t) { return std::isinf(expected(t)); });
    ASSERT_EQ(found.count, std::min<std::int32_t>(top, static_cast<std::int32_t>(order.size())));
    for (std::int32_t i = 0; i < found.count; ++i) {
      const TokenLogprob& one = found.top[static_cast<std::size_t>(i)];
      ASSERT_EQ(one.token, order[static_cast<std::size_t>(i)]);
      ASSERT_TRUE(near(one.logprob, one.token));
      if (one.token == token) {
        ASSERT_EQ(one.logprob, found.logprob);
      }
    }
  }
}

TEST(Logprobs, OfInfinitiesAndNan) {
  EXPECT_TRUE(std::isnan(score({1.0f, kNan, 2.0f}, 0, 2).logprob));
  EXPECT_EQ(score({1.0f, kNan, 2.0f}, 0, 2).count, 0);
  EXPECT_TRUE(std::isnan(score({-kInfinity, -kInfinity}, 0, 1).logprob));
  EXPECT_EQ(score({3.0f}, 0, 20).logprob, 0.0f);
  EXPECT_EQ(score({3.0f}, 0, 20).count, 1);
  EXPECT_EQ(score({3.0f, -kInfinity}, 1, 2).logprob, -kInfinity);
  EXPECT_EQ(score({3.0f, -kInfinity}, 1, 2).count, 1);
  const TokenScore shared = score({kInfinity, 5.0f, kInfinity}, 2, 2);
  EXPECT_FLOAT_EQ(shared.logprob, std::log(0.5f));
  EXPECT_EQ(shared.top[0].token, 0);
  EXPECT_EQ(shared.top[1].token, 2);
  EXPECT_EQ(score({kInfinity, 5.0f, kInfinity}, 1, 0).logprob, -kInfinity);
  const float most = std::numeric_limits<float>::max();
  EXPECT_EQ(score({most, -most}, 0, 1).logprob, 0.0f);
}

}  // namespace
}  // namespace liquidgemm
