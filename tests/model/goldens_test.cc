// FP32 logits against Hugging Face transformers, for a small random checkpoint of every family, as
// folders and as GGUF files.
#include "model/goldens.h"
#include "smollm2_path.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace liquidgemm {
namespace {

using testing::Goldens;

// The largest difference allowed, in units of the RMS of the position's logits.
constexpr double kTolerance = 1e-4;

LoadOptions fp32_options(Isa isa, std::int32_t max_rows) {
  LoadOptions options;
  options.precision = Precision::kFp32;
  options.isa = isa;
  options.threads = 2;
  options.limits.max_rows = max_rows;
  options.limits.max_sequences = 1;
  options.limits.max_position = 640;
  options.limits.pages = 10;
  options.limits.kv_format = KvFormat::kF32;
  return options;
}

class TransformersGoldens : public ::testing::TestWithParam<const char*> {};

TEST_P(TransformersGoldens, LogitsAgree) {
  const std::string name = GetParam();
  // "llama-mixed.gguf" has its goldens in "llama-mixed.goldens.safetensors".
  const Goldens goldens(
      testing::model_data(name.substr(0, name.find('.')) + ".goldens.safetensors"));
  for (const Isa isa : testing::isas()) {
    SCOPED_TRACE(isa_name(isa));
    auto model = testing::load_for_test(testing::model_data(name), fp32_options(isa, 256));
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    for (const std::string length : {"1", "17", "200", "600"}) {
      if (!goldens.has("tokens." + length)) continue;
      // Instruction sets agree bit for bit (other tests); here each need only be seen to run.
      if (isa != best_isa() && length.size() > 2) continue;
      const auto tokens = goldens.get<TokenId>("tokens." + length);
      const auto positions = goldens.get<std::int32_t>("positions." + length);
      const auto expected = goldens.get<float>("logits." + length);
      const auto logits = testing::run_logits(*model->backend, tokens, positions, 256);
      ASSERT_EQ(logits.size(), positions.size());
      for (std::size_t i = 0; i < logits.size(); ++i) {
        const std::size_t width = logits[i].size();
        ASSERT_EQ(expected.size(), width * positions.size());
        const std::span<const float> want(expected.data() + i * width, width);
        EXPECT_LE(testing::largest_difference(logits[i], want) / testing::rms(want), kTolerance)
            << length << " tokens, position " << positions[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryFamily, TransformersGoldens,
                         ::testing::Values("llama3", "llama31", "llama-bias", "smollm2",
                                           "smollm2-odd", "qwen25", "qwen3", "llama-q4_1.gguf",
                                           "llama-mixed.gguf", "qwen2-f16.gguf"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(SmolLm2Goldens, LogitsAgree) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "too slow with sanitizers; the small checkpoints run the same code";
#endif
  const std::string path = smollm2_path();
  if (!MappedFile::open(path).ok()) {
    GTEST_SKIP() << "needs " << path << " (scripts/demo.sh downloads it)";
  }
  const Goldens goldens(testing::model_data("smollm2-135m.goldens.safetensors"));
  auto model = testing::load_for_test(path, fp32_options(best_isa(), 128));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const auto sample_ids = goldens.get<std::int32_t>("sample_ids");
  for (const std::string name : {"chat", "text"}) {
    const auto tokens = goldens.get<TokenId>("tokens." + name);
    const auto positions = goldens.get<std::int32_t>("positions." + name);
    const auto golden_rms = goldens.get<float>("rms." + name);
    const auto top_ids = goldens.get<std::int32_t>("top_ids." + name);
    const auto top_logits = goldens.get<float>("top_logits." + name);
    const auto sample_logits = goldens.get<float>("sample_logits." + name);
    const auto logits = testing::run_logits(*model->backend, tokens, positions, 128);
    ASSERT_EQ(logits.size(), positions.size());
    double worst = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      SCOPED_TRACE(name + ", position " + std::to_string(positions[i]));
      const auto check = [&](std::span<const std::int32_t> ids, const float* want) {
        std::vector<float> got;
        for (const std::int32_t id : ids) got.push_back(logits[i].at(static_cast<std::size_t>(id)));
        const double difference =
            testing::largest_difference(got, {want, ids.size()}) / golden_rms[i];
        EXPECT_LE(difference, kTolerance);
        worst = std::max(worst, difference);
      };
      check(std::span(top_ids).subspan(i * 8, 8), top_logits.data() + i * 8);
      check(sample_ids, sample_logits.data() + i * sample_ids.size());
      EXPECT_NEAR(testing::rms(logits[i]) / golden_rms[i], 1.0, kTolerance);
      const auto best = std::max_element(logits[i].begin(), logits[i].end());
      EXPECT_EQ(best - logits[i].begin(), top_ids[i * 8]);
    }
    std::printf("SmolLM2 %s: %.1e of the RMS\n", name.c_str(), worst);
  }
}

}  // namespace
}  // namespace liquidgemm
