// The AMX kernels with their tiles in memory: what they load, multiply and store, on machines that
// have AVX-512 and no AMX. IntegerLinear's tests run the real ones where they can.
#include <gtest/gtest.h>

#include "gemm/cpu/linear.h"
#include "gemm/random_layers.h"

#if defined(LIQUIDGEMM_X86_KERNELS)

namespace liquidgemm::cpu {
extern const IntegerKernel kLiquid4EmulatedTiles;
extern const IntegerKernel kInt8EmulatedTiles;
}  // namespace liquidgemm::cpu

namespace liquidgemm::testing {
namespace {

void check(const Layer& layer, const Tokens& tokens, bool biased, ThreadPool& pool,
           Random& random) {
  const WeightView view = layer.view();
  SCOPED_TRACE("n " + std::to_string(view.n) + " k " + std::to_string(view.k) + " group " +
               std::to_string(view.group_size) + " m " + std::to_string(tokens.m) + " kind " +
               std::to_string(static_cast<int>(view.kind)));
  const bool liquid4 = view.kind == WeightView::Kind::kLiquid4;
  auto packed = cpu::pack_weights(std::span(&view, 1), cpu::kPanelRows, pool, nullptr);
  ASSERT_TRUE(packed.ok()) << packed.status().to_string();
  const auto linear = cpu::make_integer_linear(
      view, std::move(*packed), liquid4 ? cpu::kLiquid4EmulatedTiles : cpu::kInt8EmulatedTiles,
      Isa::kAmxInt8, pool);
  ASSERT_TRUE(linear.ok()) << linear.status().to_string();

  const auto count = static_cast<std::size_t>(tokens.m * view.n);
  std::vector<std::int32_t> want_sums(count);
  reference_accumulate(view, tokens.view(), want_sums.data());
  std::vector<std::int32_t> sums(count, 0x5A5A5A5A);
  (*linear)->accumulate(tokens.view(), sums.data(), pool);
  ASSERT_EQ(sums, want_sums);

  const std::vector<float> bias = random_floats(random, view.n);
  std::vector<float> want(count);
  reference_run(view, tokens.view(), biased ? bias.data() : nullptr, want.data(), view.n);
  GuardedOutput out(tokens.m, view.n, view.n + pick(random, 0, 5));
  (*linear)->run(tokens.view(), biased ? bias.data() : nullptr, out.data(), out.ld(), pool);
  ASSERT_TRUE(out.equals(want));
}

class EmulatedTiles : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!check_isa(Isa::kAvx512Vnni).ok()) GTEST_SKIP() << "this machine has no AVX-512 VNNI";
  }
  Layer layer(std::int64_t n, std::int64_t k, Extreme extreme = Extreme::kNone) {
    if (random() % 3 == 0) return random_int8(random, n, k, extreme);
    return random_liquid4(random, n, k + k % 2, 32 << pick(random, 0, 2), extreme);
  }
  Random random{fresh_seed()};
};

TEST_F(EmulatedTiles, RandomCases) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (int i = 0; i < (kSanitized ? 20 : 100) && !HasFatalFailure(); ++i) {
      const Layer weights = layer(pick(random, 1, 130), pick(random, 1, 300));
      const std::int64_t m = random() % 2 ? pick(random, 1, 34) : pick(random, 1, 110);
      check(weights, random_tokens(random, m, weights.k, random() % 4 == 0), random() % 2, pool,
            random);
    }
  }
}

TEST_F(EmulatedTiles, EveryBatchSize) {
  ThreadPool pool(2);
  for (std::int64_t m = 1; m <= 100 && !HasFatalFailure(); m += kSanitized ? 9 : 1) {
    const Layer weights =
        layer(40, pick(random, 60, 200), m % 3 == 0 ? Extreme::kHighest : Extreme::kLowest);
    check(weights, random_tokens(random, m, weights.k, true), m % 2 == 0, pool, random);
  }
}

// More panels than pass a tile together, and a block of 512 tokens and more.
TEST_F(EmulatedTiles, ManyPanelsAndTokens) {
  ThreadPool pool(2);
  const Layer wide = random_liquid4(random, 32 * 21 + 5, 130, 64);
  check(wide, random_tokens(random, 70, wide.k), false, pool, random);
  const Layer narrow = layer(70, 96);
  check(narrow, random_tokens(random, 530, narrow.k), true, pool, random);
  // Tokens that do not stay in L2, and panels of which two exceed what should pass together.
  const Layer deep = random_liquid4(random, 100, 30000, 128);
  check(deep, random_tokens(random, 60, deep.k), false, pool, random);
}

}  // namespace
}  // namespace liquidgemm::testing

#endif
