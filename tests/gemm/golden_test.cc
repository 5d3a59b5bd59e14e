// The numeric contract as an independent NumPy program has it: tests/data/gemm/make_goldens.py.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "gemm/random_layers.h"

namespace liquidgemm::testing {
namespace {

class Golden {
 public:
  explicit Golden(const std::string& name) {
    const std::string path = std::string(LIQUIDGEMM_TEST_DATA) + "/gemm/" + name + ".bin";
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.good()) << path;
    bytes_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    const std::vector<std::int32_t> head = next<std::int32_t>(6);
    m = head[1];
    layer.kind = head[0] == 0 ? WeightView::Kind::kLiquid4 : WeightView::Kind::kInt8;
    layer.n = head[2];
    layer.k = head[3];
    const std::int64_t n = layer.n;
    const std::int64_t k = layer.k;
    if (head[0] == 0) {
      layer.group_size = head[4];
      const std::int64_t groups = (k + layer.group_size - 1) / layer.group_size;
      layer.packed = next<std::uint8_t>(n * (k / 2));
      layer.step = next<std::uint8_t>(n * groups);
      layer.offset = next<std::uint8_t>(n * groups);
    } else {
      layer.int8 = next<std::int8_t>(n * k);
    }
    layer.channel_scale = next<float>(n);
    if (head[5] != 0) bias = next<float>(n);
    x = next<float>(m * k);
    tokens.m = m;
    tokens.k = tokens.ld = k;
    tokens.x8 = next<std::int8_t>(m * k);
    tokens.scale = next<float>(m);
    tokens.sum = next<std::int32_t>(m);
    sums = next<std::int32_t>(m * n);
    out = next<float>(m * n);
    EXPECT_EQ(at_, bytes_.size()) << "the file is longer than its header says";
  }

  Layer layer;
  Tokens tokens;
  std::int64_t m = 0;
  std::vector<float> bias, x, out;
  std::vector<std::int32_t> sums;

 private:
  template <typename T>
  std::vector<T> next(std::int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    const std::size_t size = values.size() * sizeof(T);
    if (size > bytes_.size() - at_) {
      ADD_FAILURE() << "the file is too short";
      return values;
    }
    std::memcpy(values.data(), bytes_.data() + at_, size);
    at_ += size;
    return values;
  }

  std::vector<char> bytes_;
  std::size_t at_ = 0;
};

class GoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, ActivationsAreTheEmulations) {
  const Golden golden(GetParam());
  const std::int64_t k = golden.layer.k;
  for (Isa isa : machine_isas()) {
    SCOPED_TRACE(isa_name(isa));
    std::vector<std::int8_t> x8(golden.tokens.x8.size());
    std::vector<float> scale(golden.tokens.scale.size());
    std::vector<std::int32_t> sum(golden.tokens.sum.size());
    quantize_activations(isa, golden.x.data(), golden.m, k, k, x8.data(), k, scale.data(),
                         sum.data());
    EXPECT_EQ(x8, golden.tokens.x8);
    EXPECT_EQ(sum, golden.tokens.sum);
    for (std::size_t i = 0; i < scale.size(); ++i) {
      EXPECT_TRUE(same_float(scale[i], golden.tokens.scale[i])) << "row " << i;
    }
  }
}

TEST_P(GoldenTest, LayersAreTheEmulations) {
  const Golden golden(GetParam());
  const WeightView view = golden.layer.view();
  const QuantizedRows rows = golden.tokens.view();
  const float* bias = golden.bias.empty() ? nullptr : golden.bias.data();

  std::vector<std::int32_t> sums(golden.sums.size());
  reference_accumulate(view, rows, sums.data());
  EXPECT_EQ(sums, golden.sums);
  GuardedOutput reference(golden.m, view.n, view.n + 3);
  reference_run(view, rows, bias, reference.data(), reference.ld());
  EXPECT_TRUE(reference.equals(golden.out));

  for (Isa isa : machine_isas()) {
    for (int threads : {1, 2}) {
      SCOPED_TRACE(std::string(isa_name(isa)) + " threads " + std::to_string(threads));
      ThreadPool pool(threads);
      const auto linear = make_linear(view, isa, pool);
      ASSERT_TRUE(linear.ok()) << linear.status().to_string();
      std::fill(sums.begin(), sums.end(), 0);
      (*linear)->accumulate(rows, sums.data(), pool);
      EXPECT_EQ(sums, golden.sums);
      GuardedOutput out(golden.m, view.n, view.n + 3);
      (*linear)->run(rows, bias, out.data(), out.ld(), pool);
      EXPECT_TRUE(out.equals(golden.out));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(NumPy, GoldenTest,
                         ::testing::Values("liquid4_g32", "liquid4_g64", "liquid4_g64_short_group",
                                           "liquid4_g128", "liquid4_one_token", "int8",
                                           "int8_one_token"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace liquidgemm::testing
