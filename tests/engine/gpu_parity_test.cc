// The GPU against the CPU: the same graph, and all but attention the same bits.
//
// The bound is that of docs/numerics.md: logits of a position differ by no more than 2e-2 times
// their root mean square.

#include <cmath>
#include <cstdio>

#include "engine/engine.h"
#include "engine/model_fixture.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

constexpr double kBound = 2e-2;

double root_mean_square(std::span<const float> x) {
  double sum = 0.0;
  for (const float value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

// The largest difference of one position, relative to its RMS.
double difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double off = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    largest = std::isnan(off) ? INFINITY : std::max(largest, off);
  }
  return largest / root_mean_square(a);
}

struct Case {
  const char* model;
  Precision precision;
  KvFormat kv_format;
};

class GpuParity : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = no_gpu(DeviceChoice::kCuda); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
  LoadedModel load(DeviceChoice device) const {
    TestModelOptions options;
    options.precision = GetParam().precision;
    options.kv_format = GetParam().kv_format;
    options.device = device;
    options.threads = 2;
    options.max_rows = 320;
    options.max_logits_rows = 320;
    return load_test_model(GetParam().model, options);
  }
};

TEST_P(GpuParity, LogitsAgreeWithTheCpu) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const LoadedModel cpu = load(DeviceChoice::kCpu);
  const LoadedModel gpu = load(DeviceChoice::kCuda);
  ASSERT_TRUE(gpu.on_gpu);
  const auto tokens = random_tokens(random, 300, cpu.config.vocab_size);
  const std::vector<std::int32_t> pages{7, 3, 41, 40, 99};
  const std::vector<float> expected = all_logits(*cpu.backend, tokens, 300, pages);
  const std::vector<float> found = all_logits(*gpu.backend, tokens, 300, pages);
  ASSERT_EQ(expected.size(), found.size());
  const auto vocab = static_cast<std::size_t>(cpu.config.vocab_size);
  double largest = 0.0, sum = 0.0;
  for (std::size_t at = 0; at < expected.size(); at += vocab) {
    const double off = difference({expected.data() + at, vocab}, {found.data() + at, vocab});
    largest = std::max(largest, off);
    sum += off;
  }
  std::printf("largest difference %.2e, mean of the positions' largest %.2e, of the RMS\n", largest,
              sum / 300.0);
  EXPECT_LT(largest, kBound);
}

INSTANTIATE_TEST_SUITE_P(Models, GpuParity,
                         ::testing::Values(Case{"smollm2", Precision::kW4A8, KvFormat::kF16},
                                           Case{"smollm2-odd", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"llama3", Precision::kW4A8, KvFormat::kF16},
                                           Case{"llama3", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"llama31", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"llama-bias", Precision::kW4A8, KvFormat::kF16},
                                           Case{"qwen25", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"qwen25", Precision::kW8A8, KvFormat::kF16},
                                           Case{"qwen3", Precision::kW4A8, KvFormat::kF16}),
                         [](const auto& info) {
                           std::string name = std::string(info.param.model) + "_" +
                                              std::string(precision_name(info.param.precision)) +
                                              "_" +
                                              std::string(kv_format_name(info.param.kv_format));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace liquidgemm
