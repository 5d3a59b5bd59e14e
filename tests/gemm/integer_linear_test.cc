// 4-bit and INT8 layers: every ISA, thread count and batch gives the oracle's bits.
#include <gtest/gtest.h>

#include "gemm/numerics.h"
#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

struct Case {
  Layer layer;
  Tokens tokens;
  bool bias = false;
};

std::string name_of(const Case& test, Isa isa, int threads) {
  return "n " + std::to_string(test.layer.n) + " k " + std::to_string(test.layer.k) + " group " +
         std::to_string(test.layer.kind == WeightView::Kind::kInt8 ? 0 : test.layer.group_size) +
         " m " + std::to_string(test.tokens.m) + " isa " + std::string(isa_name(isa)) +
         " threads " + std::to_string(threads);
}

// Compares sums and floats of all ISAs with the oracle.
void check(const Case& test, ThreadPool& pool, Random& random) {
  const WeightView view = test.layer.view();
  const QuantizedRows x = test.tokens.view();
  const std::size_t count = static_cast<std::size_t>(x.m * view.n);
  std::vector<std::int32_t> want_sums(count);
  reference_accumulate(view, x, want_sums.data());
  const std::vector<float> bias = random_floats(random, view.n);
  const float* bias_data = test.bias ? bias.data() : nullptr;
  // What reference_run does with those sums (ReferenceRunScalesItsSums), without summing again.
  std::vector<float> want(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t column = i % static_cast<std::size_t>(view.n);
    const std::size_t row = i / static_cast<std::size_t>(view.n);
    want[i] = numerics::scale_output(want_sums[i], x.scale[row], view.channel_scale[column]);
    if (bias_data) want[i] += bias_data[column];
  }

  for (Isa isa : machine_isas()) {
    SCOPED_TRACE(name_of(test, isa, pool.threads()));
    const auto linear = make_linear(view, isa, pool);
    ASSERT_TRUE(linear.ok()) << linear.status().to_string();
    EXPECT_FALSE((*linear)->takes_float());
    if (random() % 2 == 0) {  // a hint, even when the other layer is gone
      const Layer other = random_liquid4(random, pick(random, 1, 70), 64, 64);
      const auto next = make_linear(other.view(), isa, pool);
      ASSERT_TRUE(next.ok()) << next.status().to_string();
      (*linear)->followed_by(**next);
    }
    EXPECT_NE((*linear)->describe().find(isa_name(isa)), std::string::npos);

    constexpr std::int32_t kPoison = 0x5A5A5A5A;
    std::vector<std::int32_t> sums(count + 64, kPoison);
    (*linear)->accumulate(x, sums.data(), pool);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      ASSERT_EQ(sums[i], i < count ? want_sums[i] : kPoison)
          << "row " << i / static_cast<std::size_t>(view.n) << " column "
          << i % static_cast<std::size_t>(view.n);
    }
    GuardedOutput out(x.m, view.n, view.n + pick(random, 0, 5));
    (*linear)->run(x, bias_data, out.data(), out.ld(), pool);
    ASSERT_TRUE(out.equals(want));
  }
}

Layer random_layer(Random& random, std::int64_t n, std::int64_t k, Extreme extreme) {
  constexpr int kGroups[] = {32, 64, 128};
  if (random() % 3 == 0) return random_int8(random, n, k, extreme);
  return random_liquid4(random, n, k + k % 2, kGroups[random() % 3], extreme);
}

Extreme random_extreme(Random& random) {
  switch (random() % 6) {
    case 0: return Extreme::kHighest;
    case 1: return Extreme::kLowest;
    default: return Extreme::kNone;
  }
}

void random_cases(int count, int threads) {
  Random random(fresh_seed());
  ThreadPool pool(threads);
  for (int i = 0; i < count && !::testing::Test::HasFatalFailure(); ++i) {
    const std::int64_t n = random() % 2 ? pick(random, 1, 40) : pick(random, 1, 130);
    const std::int64_t k = random() % 2 ? 32 * pick(random, 1, 12) : pick(random, 1, 300);
    Case test;
    test.layer = random_layer(random, n, k, random_extreme(random));
    const std::int64_t m = random() % 3 ? pick(random, 1, 14) : pick(random, 1, 70);
    test.tokens = random_tokens(random, m, test.layer.k, random() % 4 == 0, random() % 4 == 0);
    test.bias = random() % 2;
    check(test, pool, random);
  }
}

constexpr int kCases = kSanitized ? 60 : 800;

TEST(IntegerLinear, RandomCasesOneThread) { random_cases(kCases, 1); }
TEST(IntegerLinear, RandomCasesTwoThreads) { random_cases(kCases, 2); }
TEST(IntegerLinear, RandomCasesThreeThreads) { random_cases(kCases / 3, 3); }

TEST(IntegerLinear, EveryBatchSize) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (std::int64_t m = 1; m <= 70; m += kSanitized ? 9 : 1) {
    for (int group : {32, 64, 128}) {
      check({random_liquid4(random, 40, 96, group), random_tokens(random, m, 96), true}, pool,
            random);
    }
    check({random_int8(random, 40, 97), random_tokens(random, m, 97), false}, pool, random);
  }
}

// The batches of generation have kernels of their own. N ends inside a panel; K ends inside a group
// of 64 or 128 and, at 66, inside a chunk.
TEST(IntegerLinear, SmallBatches) {
  Random random(fresh_seed());
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    for (std::int64_t m = 1; m <= 8; m += kSanitized ? 3 : 1) {
      for (std::int64_t k : {32, 66, 96, 224, 416}) {
        for (Extreme extreme : {Extreme::kNone, Extreme::kHighest, Extreme::kLowest}) {
          const int group = 32 << pick(random, 0, 2);
          const bool saturated = extreme != Extreme::kNone || random() % 2;
          const std::int64_t n = 2 * pick(random, 0, 50) + 1;
          check({random_liquid4(random, n, k, group, extreme),
                 random_tokens(random, m, k, saturated), m % 2 == 1},
                pool, random);
        }
      }
    }
  }
}

// Above 512 KiB a thread a single token's weights are asked for in another way.
TEST(IntegerLinear, OneTokenOfALargeLayer) {
  Random random(fresh_seed());
  ThreadPool pool(1);
  check(
      {random_liquid4(random, pick(random, 1100, 1200), 1024, 64), random_tokens(random, 1, 1024)},
      pool, random);
}

// From 16 tokens a thread on, threads divide the tokens of a layer of up to 1024 channels, with AMX
// up to 2048. 530 are more than a block.
TEST(IntegerLinear, FewChannelsAndManyTokens) {
  Random random(fresh_seed());
  for (int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t m : {16 * threads - 1, 16 * threads, 16 * threads + 1, 530}) {
      const std::int64_t k = pick(random, 1, 150);
      const Layer layer = random_layer(random, pick(random, 1, 130), k, random_extreme(random));
      check({layer, random_tokens(random, m, layer.k, random() % 2), true}, pool, random);
    }
    // Few enough weights, of a block of 511 tokens; and too many of them.
    for (const std::int64_t n : {3, 130}) {
      const Layer layer = random_liquid4(random, n, 16416, 64);
      check({layer, random_tokens(random, n == 3 ? 515 : 16 * threads, 16416), false}, pool,
            random);
    }
    for (const std::int64_t n : {1024, 1025, 2048, 2049}) {
      const Layer layer = random_layer(random, n, 34, Extreme::kNone);
      check({layer, random_tokens(random, 16 * threads + 3, 34), false}, pool, random);
    }
  }
}

TEST(IntegerLinear, ReferenceRunScalesItsSums) {
  Random random(fresh_seed());
  for (const Layer& layer : {random_liquid4(random, 21, 70, 32), random_int8(random, 21, 70)}) {
    const Tokens tokens = random_tokens(random, 5, 70);
    const std::vector<float> bias = random_floats(random, 21);
    std::vector<std::int32_t> sums(5 * 21);
    std::vector<float> plain(5 * 21), biased(5 * 21);
    reference_accumulate(layer.view(), tokens.view(), sums.data());
    reference_run(layer.view(), tokens.view(), nullptr, plain.data(), 21);
    reference_run(layer.view(), tokens.view(), bias.data(), biased.data(), 21);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const float t = tokens.scale[i / 21] * layer.channel_scale[i % 21];
      EXPECT_TRUE(same_float(plain[i], static_cast<float>(sums[i]) * t));
      EXPECT_TRUE(same_float(biased[i], plain[i] + bias[i % 21]));
    }
  }
}

// The largest K in use, with the codes and activations that make the largest sums.
TEST(IntegerLinear, LongestSumsDoNotOverflow) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  constexpr std::int64_t kLong = 66304;
  for (Extreme extreme : {Extreme::kHighest, Extreme::kLowest}) {
    for (std::int64_t m : {1, 3, 13}) {
      if (kSanitized && m != 3) continue;
      check({random_liquid4(random, 3, kLong, 64, extreme), random_tokens(random, m, kLong, true),
             false},
            pool, random);
      check({random_int8(random, 3, 66311, extreme), random_tokens(random, m, 66311, true), false},
            pool, random);
    }
  }
}

// More tokens than one block takes.
TEST(IntegerLinear, ManyTokens) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (std::int64_t m : {511, 512, 513, 1100}) {
    check({random_liquid4(random, 9, 64, 32), random_tokens(random, m, 64), true}, pool, random);
    check({random_int8(random, 9, 37), random_tokens(random, m, 37), true}, pool, random);
  }
}

// A token's result is the same bits alone and anywhere in a batch.
TEST(IntegerLinear, ATokenDoesNotSeeItsBatch) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  const Layer layer = random_liquid4(random, 77, 224, 64);
  const Tokens tokens = random_tokens(random, 61, 224);
  for (Isa isa : machine_isas()) {
    const auto linear = make_linear(layer.view(), isa, pool);
    ASSERT_TRUE(linear.ok());
    std::vector<float> all(61 * 77);
    (*linear)->run(tokens.view(), nullptr, all.data(), 77, pool);
    for (std::int64_t count : {1, 2, 7, 12, 13, 30}) {
      std::vector<float> part(static_cast<std::size_t>(count) * 77);
      const std::int64_t first = pick(random, 0, 61 - count);
      (*linear)->run(tokens.view(first, count), nullptr, part.data(), 77, pool);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * 77));
    }
  }
}

TEST(IntegerLinear, NoTokensIsNoWork) {
  Random random(1);
  ThreadPool pool(2);
  const Layer layer = random_int8(random, 5, 5);
  for (Isa isa : machine_isas()) {
    const auto linear = make_linear(layer.view(), isa, pool);
    ASSERT_TRUE(linear.ok());
    Tokens none;
    none.k = none.ld = 5;
    (*linear)->accumulate(none.view(), nullptr, pool);
    (*linear)->run(none.view(), nullptr, nullptr, 5, pool);
  }
}

TEST(IntegerLinear, ANaNRowIsNaNAndLeavesTheOthersAlone) {
  Random random(fresh_seed());
  ThreadPool pool(1);
  const Layer layer = random_liquid4(random, 33, 64, 64);
  Tokens tokens = random_tokens(random, 5, 64);
  std::fill_n(tokens.x8.begin() + 2 * tokens.ld, 64, std::int8_t{0});
  tokens.sum[2] = 0;
  tokens.scale[2] = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : machine_isas()) {
    const auto linear = make_linear(layer.view(), isa, pool);
    ASSERT_TRUE(linear.ok());
    std::vector<float> out(5 * 33);
    (*linear)->run(tokens.view(), nullptr, out.data(), 33, pool);
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 33 == 2);
  }
}

}  // namespace
}  // namespace liquidgemm::testing
