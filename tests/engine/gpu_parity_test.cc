// The GPU against the CPU: the same graph, and all but attention the same bits.
//
// Attention rounds queries and weights to f16, and what differs there may round another way where
// activations become INT8: from then on the logits differ by the noise that this rounding has
// anyhow. So two things are asked for. Where attention has nothing to sum, at the first position,
// logits are equal bit for bit. Elsewhere they differ no more than those of the CPU with another
// cache format do, whose attention differs as little.

#include <cmath>
#include <cstdio>

#include "engine/engine.h"
#include "engine/model_fixture.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

using testing::relative_difference;

struct Case {
  const char* model;
  Precision precision;
};

class GpuParity : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = no_gpu(DeviceChoice::kCuda); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
  static LoadedModel load(DeviceChoice device, KvFormat kv_format) {
    TestModelOptions options;
    options.precision = GetParam().precision;
    options.kv_format = kv_format;
    options.device = device;
    options.threads = 2;
    options.max_rows = 320;
    options.max_logits_rows = 320;
    return load_test_model(GetParam().model, options);
  }
};

constexpr std::int64_t kTokens = 300;
const std::vector<std::int32_t> kPages{7, 3, 41, 40, 99};

// Among them rows of every linear layer, norm, gate and of the head.
TEST_P(GpuParity, TheFirstPositionHasTheCpusBits) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const LoadedModel cpu = load(DeviceChoice::kCpu, KvFormat::kF16);
  const LoadedModel gpu = load(DeviceChoice::kCuda, KvFormat::kF16);
  ASSERT_TRUE(gpu.on_gpu);
  for (int i = 0; i < 40; ++i) {
    const auto token = random_tokens(random, 1, cpu.config.vocab_size);
    EXPECT_EQ(all_logits(*cpu.backend, token, 1, kPages),
              all_logits(*gpu.backend, token, 1, kPages))
        << "token " << token[0];
  }
}

TEST_P(GpuParity, LogitsDifferAsThoseOfAnotherCacheDo) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const auto logits = [&](DeviceChoice device, KvFormat format,
                          const std::vector<TokenId>& tokens) {
    const LoadedModel model = load(device, format);
    return all_logits(*model.backend, tokens, kTokens, kPages);
  };
  const auto vocabulary = load(DeviceChoice::kCpu, KvFormat::kF16).config.vocab_size;
  const auto tokens = random_tokens(random, kTokens, vocabulary);
  const auto exact = logits(DeviceChoice::kCpu, KvFormat::kF32, tokens);
  const auto f16 = logits(DeviceChoice::kCpu, KvFormat::kF16, tokens);
  const auto bf16 = logits(DeviceChoice::kCpu, KvFormat::kBf16, tokens);
  const auto int8 = logits(DeviceChoice::kCpu, KvFormat::kInt8, tokens);
  const auto fixed = logits(DeviceChoice::kCpu, KvFormat::kInt8Static, tokens);
  const auto gpu_fixed = logits(DeviceChoice::kCuda, KvFormat::kInt8Static, tokens);
  const auto gpu_f16 = logits(DeviceChoice::kCuda, KvFormat::kF16, tokens);
  const auto gpu_bf16 = logits(DeviceChoice::kCuda, KvFormat::kBf16, tokens);
  const auto gpu_int8 = logits(DeviceChoice::kCuda, KvFormat::kInt8, tokens);
  const auto gpu_int4 = logits(DeviceChoice::kCuda, KvFormat::kInt4, tokens);
  const double noise = relative_difference(f16, exact);
  std::printf(
      "of the RMS: f32 and f16 cache on the CPU %.3f; CPU and GPU: f16 %.3f, bf16 %.3f, int8 %.3f, "
      "int8-static %.3f; from the f16 cache: bf16 %.3f, int8 %.3f, int8-static %.3f, on the GPU "
      "int8 %.3f, int4 %.3f\n",
      noise, relative_difference(f16, gpu_f16), relative_difference(bf16, gpu_bf16),
      relative_difference(int8, gpu_int8), relative_difference(fixed, gpu_fixed),
      relative_difference(f16, bf16), relative_difference(f16, int8),
      relative_difference(f16, fixed), relative_difference(gpu_f16, gpu_int8),
      relative_difference(gpu_f16, gpu_int4));
  EXPECT_LT(relative_difference(f16, gpu_f16), 1.5 * noise);
  EXPECT_LT(relative_difference(bf16, gpu_bf16), 2.0 * relative_difference(f16, bf16));
  EXPECT_LT(relative_difference(int8, gpu_int8), 1.5 * relative_difference(f16, int8));
  EXPECT_LT(relative_difference(fixed, gpu_fixed), 1.5 * relative_difference(f16, fixed));
  EXPECT_LT(relative_difference(gpu_f16, gpu_int4), 0.7);
}

INSTANTIATE_TEST_SUITE_P(
    Models, GpuParity,
    ::testing::Values(Case{"smollm2", Precision::kW4A8}, Case{"smollm2-odd", Precision::kW4A8},
                      Case{"llama3", Precision::kW4A8}, Case{"llama31", Precision::kW4A8},
                      Case{"llama-bias", Precision::kW4A8}, Case{"qwen25", Precision::kW4A8},
                      Case{"qwen25", Precision::kW8A8}, Case{"qwen3", Precision::kW4A8}),
    [](const auto& info) {
      std::string name =
          std::string(info.param.model) + "_" + std::string(precision_name(info.param.precision));
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

}  // namespace
}  // namespace liquidgemm
