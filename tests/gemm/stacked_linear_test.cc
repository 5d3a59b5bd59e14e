// Matrices stacked into one, and single rows read back from the packed form.
#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

Layer random_layer(Random& random, WeightView::Kind kind, std::int64_t n, std::int64_t k,
                   int group_size) {
  if (kind == WeightView::Kind::kLiquid4) return random_liquid4(random, n, k, group_size);
  return kind == WeightView::Kind::kInt8 ? random_int8(random, n, k) : random_float(random, n, k);
}

float weight_at(const Layer& layer, std::int64_t row, std::int64_t column) {
  const auto at = static_cast<std::size_t>(row * layer.k + column);
  if (layer.kind == WeightView::Kind::kFloat) return layer.f32[at];
  const float scale = layer.channel_scale[static_cast<std::size_t>(row)];
  if (layer.kind == WeightView::Kind::kInt8) return scale * static_cast<float>(layer.int8[at]);
  const std::int64_t groups = (layer.k + layer.group_size - 1) / layer.group_size;
  const auto group = static_cast<std::size_t>(row * groups + column / layer.group_size);
  const std::uint8_t pair = layer.packed[static_cast<std::size_t>((row * layer.k + column) / 2)];
  const int code = column % 2 == 0 ? pair & 0x0F : pair >> 4;
  return scale * static_cast<float>(code * layer.step[group] + layer.offset[group] - 128);
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

class Stacked : public ::testing::TestWithParam<WeightView::Kind> {};

// Parts whose borders fall inside panels, rows that do not fill the last panel, short groups.
TEST_P(Stacked, EqualsItsPartsOneByOne) {
  Random random(fresh_seed());
  ThreadPool pool(2);
  for (int round = 0; round < 12; ++round) {
    const std::int64_t k = 2 * pick(random, 1, 150);
    const int group_size = 32 << pick(random, 0, 2);
    std::vector<Layer> layers;
    std::vector<WeightView> views;
    const std::int64_t count = pick(random, 1, 4);
    for (std::int64_t i = 0; i < count; ++i) {
      layers.push_back(random_layer(random, GetParam(), pick(random, 1, 75), k, group_size));
    }
    std::int64_t n = 0;
    for (const Layer& layer : layers) {
      views.push_back(layer.view());
      n += layer.n;
    }
    const std::int64_t m = pick(random, 1, 20);
    const Tokens tokens = random_tokens(random, m, k);
    const std::vector<float> floats = random_floats(random, m * k);
    const auto run = [&](const CpuLinear& linear, float* out) {
      if (linear.takes_float()) {
        linear.run_float(floats.data(), m, k, nullptr, out, n, pool);
      } else {
        linear.run(tokens.view(), nullptr, out, n, pool);
      }
    };
    for (const Isa isa : machine_isas()) {
      SCOPED_TRACE(std::string(isa_name(isa)) + ", " + std::to_string(n) + " x " +
                   std::to_string(k));
      HugePageMemory memory;
      const auto whole = make_linear(views, isa, pool, round % 2 == 0 ? &memory : nullptr);
      ASSERT_TRUE(whole.ok()) << whole.status().to_string();
      ASSERT_EQ((*whole)->n(), n);
      std::vector<float> got(static_cast<std::size_t>(m * n));
      std::vector<float> expected(got.size());
      run(**whole, got.data());
      std::int64_t column = 0;
      std::vector<float> row(static_cast<std::size_t>(k));
      for (const Layer& layer : layers) {
        const auto part = make_linear(layer.view(), isa, pool);
        ASSERT_TRUE(part.ok());
        run(**part, expected.data() + column);
        for (std::int64_t r = 0; r < layer.n; ++r) {
          (*whole)->weight_row(column + r, row.data());
          for (std::int64_t i = 0; i < k; ++i) {
            ASSERT_TRUE(same_bits(row[static_cast<std::size_t>(i)], weight_at(layer, r, i)))
                << "row " << r << " of the part at " << column << ", column " << i;
          }
        }
        column += layer.n;
      }
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Stacked,
                         ::testing::Values(WeightView::Kind::kLiquid4, WeightView::Kind::kInt8,
                                           WeightView::Kind::kFloat));

TEST(StackedLinear, RefusesWhatIsNotAlike) {
  Random random(fresh_seed());
  ThreadPool pool(1);
  const Layer liquid = random_liquid4(random, 8, 64, 64);
  const Layer others[] = {random_int8(random, 8, 64), random_liquid4(random, 8, 64, 32),
                          random_liquid4(random, 8, 128, 64)};
  for (const Layer& other : others) {
    const WeightView views[] = {liquid.view(), other.view()};
    EXPECT_FALSE(can_stack(views));
    EXPECT_FALSE(make_linear(views, Isa::kScalar, pool).ok());
  }
  EXPECT_FALSE(make_linear(std::span<const WeightView>(), Isa::kScalar, pool).ok());
}

// The first fault by row, with its part's name and its row there, whatever the number of threads.
TEST(StackedLinear, NamesThePartAndItsRow) {
  Random random(fresh_seed());
  const Layer good = random_liquid4(random, 50, 64, 32);
  Layer bad = random_liquid4(random, 70, 64, 32);
  bad.step[61 * 2] = 17;
  bad.step[41 * 2 + 1] = 0;
  WeightView views[] = {good.view(), bad.view(), bad.view()};
  views[1].name = "second.part";
  views[2].name = "third.part";
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    const auto linear = make_linear(views, Isa::kScalar, pool);
    ASSERT_FALSE(linear.ok());
    const std::string message = linear.status().message();
    EXPECT_NE(message.find("second.part: row 41, group 1"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace liquidgemm::testing
