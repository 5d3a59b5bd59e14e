// Float rows to INT8 on every ISA, against the oracle.
#include <gtest/gtest.h>

#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

void check(const std::vector<float>& x, std::int64_t m, std::int64_t k, std::int64_t ld) {
  for (Isa isa : machine_isas()) {
    SCOPED_TRACE("k " + std::to_string(k) + " isa " + std::string(isa_name(isa)));
    constexpr std::int8_t kPoison = 99;
    const std::int64_t ld_out = k + 5;
    std::vector<std::int8_t> x8(static_cast<std::size_t>(m * ld_out), kPoison);
    std::vector<float> scale(static_cast<std::size_t>(m), -1.0f);
    std::vector<std::int32_t> sum(static_cast<std::size_t>(m), -1);
    quantize_activations(isa, x.data(), m, k, ld, x8.data(), ld_out, scale.data(), sum.data());
    for (std::int64_t row = 0; row < m; ++row) {
      std::vector<std::int8_t> want(static_cast<std::size_t>(k));
      float want_scale = 0.0f;
      std::int32_t want_sum = 0;
      const bool finite =
          reference_quantize_row(x.data() + row * ld, k, want.data(), &want_scale, &want_sum);
      EXPECT_EQ(finite, !std::isnan(scale[row]));
      EXPECT_TRUE(same_float(scale[row], want_scale)) << scale[row] << " " << want_scale;
      EXPECT_EQ(sum[row], want_sum);
      for (std::int64_t i = 0; i < ld_out; ++i) {
        ASSERT_EQ(x8[row * ld_out + i], i < k ? want[i] : kPoison) << "row " << row << " at " << i;
      }
    }
  }
}

TEST(QuantizeRows, RandomRows) {
  Random random(fresh_seed());
  for (int i = 0; i < (kSanitized ? 40 : 600) && !::testing::Test::HasFailure(); ++i) {
    const std::int64_t k = random() % 3 ? pick(random, 1, 130) : pick(random, 1, 3000);
    const std::int64_t m = pick(random, 1, 4);
    const std::int64_t ld = k + pick(random, 0, 6);
    std::vector<float> x = random_floats(random, m * ld);
    const int exponent = static_cast<int>(pick(random, -110, 120));
    for (float& value : x) value = std::ldexp(value, exponent);
    check(x, m, k, ld);
  }
}

// A value exactly between two integers goes to the even one; scales at the ends of the range.
TEST(QuantizeRows, TiesAndBounds) {
  std::vector<float> x;
  for (int i = -254; i <= 254; ++i) x.push_back(static_cast<float>(i) * 0.5f);
  const auto k = static_cast<std::int64_t>(x.size());
  for (int exponent : {0, -100, -106, -107, -108, -120, -149, 100, 120}) {
    std::vector<float> scaled = x;
    for (float& value : scaled) value = std::ldexp(value, exponent);
    check(scaled, 1, k, k);
  }
  constexpr float kLargest = std::numeric_limits<float>::max();
  check({kLargest, -kLargest, 1.0f}, 1, 3, 3);
  check({0.0f, -0.0f, 0.0f}, 1, 3, 3);
  check({0x1p-100f, 0x1p-101f}, 1, 2, 2);
  check({std::nextafter(0x1p-100f, 0.0f), 0x1p-101f}, 1, 2, 2);
}

TEST(QuantizeRows, ANonFiniteValueAnywhereMarksItsRowOnly) {
  Random random(fresh_seed());
  constexpr float kBad[] = {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
  for (std::int64_t k : {1, 15, 16, 17, 33, 100}) {
    for (std::int64_t at = 0; at < k; ++at) {
      for (float bad : kBad) {
        std::vector<float> x = random_floats(random, 3 * k);
        x[static_cast<std::size_t>(k + at)] = bad;
        check(x, 3, k, k);
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm::testing
