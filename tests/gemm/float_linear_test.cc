// Float and FP16 layers: one summation order on every ISA, thread count and batch.
#include <gtest/gtest.h>

#include "base/half.h"
#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

struct Shape {
  std::int64_t n, k, m;
  bool bias;
};

void check(const Layer& layer, const std::vector<float>& x, const Shape& shape, std::int64_t ld_x,
           ThreadPool& pool, Random& random) {
  const std::vector<float> bias = random_floats(random, shape.n);
  const float* bias_data = shape.bias ? bias.data() : nullptr;
  std::vector<float> want(static_cast<std::size_t>(shape.m * shape.n));
  reference_run_float(layer.view(), x.data(), shape.m, ld_x, bias_data, want.data(), shape.n);
  for (Isa isa : machine_isas()) {
    SCOPED_TRACE("n " + std::to_string(shape.n) + " k " + std::to_string(shape.k) + " m " +
                 std::to_string(shape.m) + " isa " + std::string(isa_name(isa)) + " threads " +
                 std::to_string(pool.threads()));
    const auto linear = make_linear(layer.view(), isa, pool);
    ASSERT_TRUE(linear.ok()) << linear.status().to_string();
    EXPECT_TRUE((*linear)->takes_float());
    GuardedOutput out(shape.m, shape.n, shape.n + pick(random, 0, 5));
    (*linear)->run_float(x.data(), shape.m, ld_x, bias_data, out.data(), out.ld(), pool);
    ASSERT_TRUE(out.equals(want));
  }
}

void random_cases(int count, int threads) {
  Random random(fresh_seed());
  ThreadPool pool(threads);
  for (int i = 0; i < count && !::testing::Test::HasFatalFailure(); ++i) {
    // Around the block of 256 now and then, else small.
    const std::int64_t k = random() % 4 ? pick(random, 1, 200) : pick(random, 250, 600);
    const std::int64_t m = random() % 3 ? pick(random, 1, 14) : pick(random, 1, 40);
    const Shape shape = {pick(random, 1, 100), k, m, random() % 2 == 0};
    const std::int64_t ld_x = k + pick(random, 0, 7);
    const Layer layer =
        random() % 2 ? random_float(random, shape.n, k) : random_fp16(random, shape.n, k);
    check(layer, random_floats(random, m * ld_x), shape, ld_x, pool, random);
  }
}

TEST(FloatLinear, RandomCasesOneThread) { random_cases(kSanitized ? 25 : 150, 1); }
TEST(FloatLinear, RandomCasesTwoThreads) { random_cases(kSanitized ? 25 : 150, 2); }
TEST(FloatLinear, RandomCasesThreeThreads) { random_cases(kSanitized ? 10 : 50, 3); }

TEST(FloatLinear, EveryBatchSize) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (const Layer& layer : {random_float(random, 37, 300), random_fp16(random, 37, 300)}) {
    for (std::int64_t m = 1; m <= 70; m += kSanitized ? 9 : 1) {
      check(layer, random_floats(random, m * 300), {37, 300, m, false}, 300, pool, random);
    }
  }
}

// Values of every size: cancellation, subnormal results, overflow to infinity, NaN.
TEST(FloatLinear, HardValues) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    Layer layer = random_float(random, 19, 70);
    std::vector<float> x = random_floats(random, 9 * 70);
    for (std::vector<float>* values : {&layer.f32, &x}) {
      for (float& value : *values)
        value = std::ldexp(value, static_cast<int>(pick(random, -80, 60)));
      (*values)[random() % values->size()] = 0x1p-140f;
      (*values)[random() % values->size()] = -0.0f;
      (*values)[random() % values->size()] = 0x1.8p+120f;
    }
    if (round % 4 == 0) x[70 * 3] = std::numeric_limits<float>::infinity();
    if (round % 4 == 1) x[70 * 5 + 1] = std::numeric_limits<float>::quiet_NaN();
    check(layer, x, {19, 70, 9, true}, 70, pool, random);
  }
}

// Activations that binary16 rounds, overflows or underflows.
TEST(FloatLinear, HardValuesInFp16) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    const Layer layer = random_fp16(random, 19, 70);
    std::vector<float> x = random_floats(random, 9 * 70);
    for (float& value : x) value = std::ldexp(value, static_cast<int>(pick(random, -26, 14)));
    x[random() % x.size()] = -0.0f;
    if (round % 4 == 0) x[70 * 3] = 65520.0f;  // the first that rounds to infinity
    if (round % 4 == 1) x[70 * 5 + 1] = std::numeric_limits<float>::quiet_NaN();
    check(layer, x, {19, 70, 9, true}, 70, pool, random);
    check(layer, x, {19, 70, 1, false}, 70, pool, random);
  }
}

TEST(FloatLinear, Fp16RowsComeBackAsTheyAre) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  const Layer layer = random_fp16(random, 50, 37);
  for (Isa isa : machine_isas()) {
    const auto linear = make_linear(layer.view(), isa, pool);
    ASSERT_TRUE(linear.ok());
    EXPECT_EQ((*linear)->describe(), "fp16 " + std::string(isa_name(isa)));
    std::vector<float> row(37);
    for (std::int64_t n = 0; n < 50; ++n) {
      (*linear)->weight_row(n, row.data());
      for (std::int64_t k = 0; k < 37; ++k) {
        const std::uint8_t* at = layer.view().f16 + 2 * (n * 37 + k);
        const float value = f16_to_float(static_cast<std::uint16_t>(at[0] | at[1] << 8));
        ASSERT_TRUE(same_float(row[static_cast<std::size_t>(k)], value));
      }
    }
  }
}

TEST(FloatLinear, AnFp16WeightThatIsNoNumberIsNamed) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (const int bits : {0x7C00, 0xFC00, 0x7C01, 0xFE00}) {
    Layer layer = random_fp16(random, 90, 33);
    const auto row = static_cast<std::size_t>(random() % 90), column = random() % 33;
    layer.f16[1 + 2 * (row * 33 + column)] = static_cast<std::uint8_t>(bits);
    layer.f16[2 + 2 * (row * 33 + column)] = static_cast<std::uint8_t>(bits >> 8);
    for (Isa isa : machine_isas()) {
      const Status status = make_linear(layer.view(), isa, pool).status();
      EXPECT_EQ(status.code(), StatusCode::kCorrupt);
      EXPECT_EQ(status.message(), "test.layer: row " + std::to_string(row) + ", column " +
                                      std::to_string(column) +
                                      ": the weight is not a finite number");
    }
  }
}

TEST(FloatLinear, ManyTokens) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (std::int64_t m : {512, 513, 1030}) {
    check(random_float(random, 3, 20), random_floats(random, m * 20), {3, 20, m, true}, 20, pool,
          random);
  }
}

TEST(FloatLinear, ATokenDoesNotSeeItsBatch) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  constexpr std::int64_t kN = 50, kK = 530, kM = 41;
  const Layer layers[] = {random_float(random, kN, kK), random_fp16(random, kN, kK)};
  const std::vector<float> x = random_floats(random, kM * kK);
  for (std::size_t i = 0; i < 2 * machine_isas().size(); ++i) {
    const auto linear = make_linear(layers[i % 2].view(), machine_isas()[i / 2], pool);
    ASSERT_TRUE(linear.ok());
    std::vector<float> all(kM * kN);
    (*linear)->run_float(x.data(), kM, kK, nullptr, all.data(), kN, pool);
    for (std::int64_t count : {1, 2, 7, 12, 13, 30}) {
      std::vector<float> part(static_cast<std::size_t>(count * kN));
      const std::int64_t first = pick(random, 0, kM - count);
      (*linear)->run_float(x.data() + first * kK, count, kK, nullptr, part.data(), kN, pool);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first * kN));
    }
  }
}

}  // namespace
}  // namespace liquidgemm::testing
