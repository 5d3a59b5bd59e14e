// The W4A8 forward pass against an independent NumPy emulation of the numeric contract
// (tests/data/model/w4a8.py): INT32 sums, outputs of single layers and logits, bit for bit.
#include <gtest/gtest.h>

#include "model/goldens.h"

namespace liquidgemm {
namespace {

using testing::Goldens;

struct Layer0 {
  Goldens goldens{testing::model_data("llama3-w4a8.layer0.safetensors")};
  Result<ModelSource> source = open_model_source(testing::model_data("llama3-w4a8"));
};

TEST(W4A8Layers, SumsAndOutputsEqualTheEmulation) {
  const Layer0 data;
  ASSERT_TRUE(data.source.ok()) << data.source.status().to_string();
  ThreadPool pool(2);
  auto weights = WeightLoader::create(*data.source, Precision::kW4A8, 64, StepRule::kSearch, pool);
  ASSERT_TRUE(weights.ok()) << weights.status().to_string();

  for (const LinearName& name : layer_linears(data.source->config, 0)) {
    SCOPED_TRACE(name.module);
    const auto expected_x8 = data.goldens.get<std::int8_t>(name.module + ".x8");
    const auto input = data.goldens.get<float>(name.module + ".input");
    const auto scale = data.goldens.get<float>(name.module + ".row_scale");
    const auto sums = data.goldens.get<std::int32_t>(name.module + ".sums");
    const auto output = data.goldens.get<float>(name.module + ".output");
    const auto rows = static_cast<std::int64_t>(scale.size());
    ASSERT_EQ(input.size(), static_cast<std::size_t>(rows * name.k));
    ASSERT_EQ(sums.size(), static_cast<std::size_t>(rows * name.n));

    // Activations.
    std::vector<std::int8_t> x8(input.size());
    std::vector<float> row_scale(scale.size());
    std::vector<std::int32_t> row_sum(scale.size());
    for (std::int64_t i = 0; i < rows; ++i) {
      ASSERT_TRUE(reference_quantize_row(input.data() + i * name.k, name.k, x8.data() + i * name.k,
                                         &row_scale[static_cast<std::size_t>(i)],
                                         &row_sum[static_cast<std::size_t>(i)]));
    }
    EXPECT_EQ(x8, expected_x8);
    EXPECT_EQ(row_scale, scale);

    // Weights times activations, on every instruction set.
    LinearGroup group{.name = name.module, .parts = {name}, .n = name.n, .k = name.k};
    auto matrices = weights->linear_group(group);
    ASSERT_TRUE(matrices.ok()) << matrices.status().to_string();
    ASSERT_EQ(matrices->size(), 1u);
    EXPECT_EQ((*matrices)[0].kind, WeightView::Kind::kLiquid4);
    const QuantizedRows quantized{.m = rows,
                                  .k = name.k,
                                  .x8 = x8.data(),
                                  .ld = name.k,
                                  .scale = row_scale.data(),
                                  .sum = row_sum.data()};
    for (const Isa isa : testing::isas()) {
      SCOPED_TRACE(isa_name(isa));
      auto linear = make_linear((*matrices)[0].view(), isa, pool);
      ASSERT_TRUE(linear.ok()) << linear.status().to_string();
      std::vector<std::int32_t> got_sums(sums.size(), 0x55555555);
      (*linear)->accumulate(quantized, got_sums.data(), pool);
      EXPECT_EQ(got_sums, sums);
      std::vector<float> got(output.size(), -1e30f);
      (*linear)->run(quantized, nullptr, got.data(), name.n, pool);
      EXPECT_EQ(got, output);
    }
  }
}

// Whole passes: quantised embedding, norms, rotation, cache, attention, gates, head.
class W4A8Model : public ::testing::TestWithParam<KvFormat> {};

TEST_P(W4A8Model, LogitsEqualTheEmulation) {
  const KvFormat kv_format = GetParam();
  const std::string kv_name(kv_format_name(kv_format));
  const Goldens goldens(testing::model_data("llama3-w4a8.goldens.safetensors"));
  for (const Isa isa : testing::isas()) {
    SCOPED_TRACE(isa_name(isa));
    LoadOptions options;
    options.isa = isa;
    options.threads = 2;
    options.limits.max_rows = 128;
    options.limits.max_sequences = 1;
    options.limits.max_position = 320;
    options.limits.pages = 5;
    options.limits.kv_format = kv_format;
    auto model = testing::load_for_test(testing::model_data("llama3-w4a8"), options);
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    EXPECT_EQ(model->precision, Precision::kW4A8);
    for (const std::string length : {"1", "17", "300"}) {
      const auto tokens = goldens.get<TokenId>("tokens." + length);
      const auto positions = goldens.get<std::int32_t>("positions." + length);
      const auto expected = goldens.get<float>("logits." + kv_name + "." + length);
      const auto logits = testing::run_logits(*model->backend, tokens, positions, 128);
      ASSERT_EQ(logits.size(), positions.size());
      for (std::size_t i = 0; i < logits.size(); ++i) {
        const std::size_t width = logits[i].size();
        const std::span<const float> want(expected.data() + i * width, width);
        EXPECT_EQ(testing::largest_difference(logits[i], want), 0.0)
            << length << " tokens, position " << positions[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(KvFormats, W4A8Model, ::testing::Values(KvFormat::kF16, KvFormat::kInt8),
                         [](const auto& info) { return std::string(kv_format_name(info.param)); });

}  // namespace
}  // namespace liquidgemm
