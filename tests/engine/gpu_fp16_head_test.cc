// A model with an FP16 head on the GPU: logits near the CPU's, and the same bits however the rows
// are put into steps.
#include <algorithm>
#include <atomic>

#include "checkpoint/file_builders.h"
#include "engine/model_fixture.h"
#include "fresh_seed.h"
#include "model/quantizer.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kTokens = 300;
const std::vector<std::int32_t> kPages{7, 3, 41, 40, 99};

class GpuFp16Head : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const std::string reason = no_gpu(DeviceChoice::kCuda); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    const auto source = open_model_source(testing::model_data(GetParam()));
    ASSERT_TRUE(source.ok()) << source.status().to_string();
    QuantizeOptions options;
    options.group_size = 32;
    options.head = WeightScheme::kFp16;
    ThreadPool pool(2);
    const std::atomic<bool> stop{false};
    const auto report = quantize_model(*source, path(), options, pool, stop);
    ASSERT_TRUE(report.ok()) << report.status().to_string();
  }

  std::string path() const { return folder_.file("model"); }

  LoadedModel load(DeviceChoice device) const {
    TestModelOptions options;
    options.precision = Precision::kAuto;  // some layers are of 8 bits
    options.device = device;
    options.threads = 2;
    options.max_rows = options.max_logits_rows = options.max_position = 320;
    options.max_sequences = 4;
    return load_model_at(path(), options);
  }

  testing::TempFolder folder_;
};

// There attention has nothing to sum: rows of the head are equal, its sums have another order.
TEST_P(GpuFp16Head, TheFirstPositionIsNearTheCpus) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const LoadedModel cpu = load(DeviceChoice::kCpu);
  const LoadedModel gpu = load(DeviceChoice::kCuda);
  ASSERT_TRUE(gpu.on_gpu);
  const auto lines = gpu.backend->describe();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "lm_head: fp16, tensor cores sm90"), 1);
  for (int i = 0; i < 20; ++i) {
    const auto token = random_tokens(random, 1, cpu.config.vocab_size);
    const auto expected = all_logits(*cpu.backend, token, 1, kPages);
    const auto found = all_logits(*gpu.backend, token, 1, kPages);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_LT(testing::relative_difference(expected, found), 1e-5) << "token " << token[0];
  }
}

TEST_P(GpuFp16Head, LogitsDoNotDependOnTheChunk) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const LoadedModel gpu = load(DeviceChoice::kCuda);
  const auto tokens = random_tokens(random, kTokens, gpu.config.vocab_size);
  const auto whole = all_logits(*gpu.backend, tokens, kTokens, kPages);
  for (const std::int64_t chunk : {1, 8, 17, 64, 65, 129}) {
    EXPECT_EQ(all_logits(*gpu.backend, tokens, chunk, kPages), whole) << "chunks of " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GpuFp16Head, ::testing::Values("smollm2-odd", "llama3", "qwen25"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace liquidgemm
