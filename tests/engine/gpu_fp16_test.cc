// FP16 weights on the GPU against the CPU's float products: what f16 rounds is all that may differ.

#include <gtest/gtest.h>

#include <cstdio>

#include "engine/model_fixture.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

// f16 keeps 11 bits; each layer rounds its rows a few times.
constexpr double kMostOfRms = 1e-2;

Result<LoadedModel> load(const std::string& name, DeviceChoice device, Precision precision) {
  TestModelOptions options;
  options.precision = precision;
  options.device = device;
  options.threads = 2;
  options.max_rows = options.max_logits_rows = 320;
  return testing::load_for_test(testing::model_data(name), load_options(options));
}

struct Case {
  const char* model;
  Precision exact;  // the CPU's: the same weights, float activations
};

class GpuFp16 : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = no_gpu(DeviceChoice::kCuda); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    auto gpu = load(GetParam().model, DeviceChoice::kCuda, Precision::kFp16);
    if (gpu.status().code() == StatusCode::kUnsupported &&
        gpu.status().message().find("cuBLASLt cannot be opened") != std::string::npos) {
      GTEST_SKIP() << gpu.status().message();
    }
    ASSERT_TRUE(gpu.ok()) << gpu.status().to_string();
    gpu_ = *std::move(gpu);
    ASSERT_TRUE(gpu_.on_gpu);
    auto cpu = load(GetParam().model, DeviceChoice::kCpu, GetParam().exact);
    ASSERT_TRUE(cpu.ok()) << cpu.status().to_string();
    cpu_ = *std::move(cpu);
  }

  LoadedModel gpu_, cpu_;
};

constexpr std::int64_t kTokens = 300;
const std::vector<std::int32_t> kPages{7, 3, 41, 40, 99};

TEST_P(GpuFp16, LogitsAreThoseOfFloatButForRounding) {
  std::mt19937 random(static_cast<unsigned>(testing::fresh_seed()));
  const auto tokens = random_tokens(random, kTokens, cpu_.config.vocab_size);
  const auto exact = all_logits(*cpu_.backend, tokens, kTokens, kPages);
  // Whole, in chunks of which one has a number of rows that was never tried, and token by token:
  // decode steps, recorded from the second one on.
  for (const std::int64_t chunk : {kTokens, std::int64_t{77}, std::int64_t{1}}) {
    const auto logits = all_logits(*gpu_.backend, tokens, chunk, kPages);
    ASSERT_EQ(logits.size(), exact.size());
    const double off = testing::relative_difference(exact, logits);
    std::printf("%s, chunks of %d: %.5f of the RMS\n", GetParam().model, static_cast<int>(chunk),
                off);
    EXPECT_LT(off, kMostOfRms) << "chunks of " << chunk;
    EXPECT_GT(off, 0.0) << "nothing was rounded to f16";
  }
}

TEST_P(GpuFp16, SaysWhatRuns) {
  bool layers = false, library = false;
  for (const std::string& line : gpu_.backend->describe()) {
    layers = layers || line.find("gate_up: fp16, cuBLASLt") == 0;
    library = library || line.find("logits depend on what runs beside") != std::string::npos;
  }
  EXPECT_TRUE(layers);
  EXPECT_TRUE(library);
  EXPECT_GE(gpu_.backend->weight_bytes(),
            2u * static_cast<std::size_t>(gpu_.config.vocab_size * gpu_.config.hidden_size));
}

INSTANTIATE_TEST_SUITE_P(
    Models, GpuFp16,
    ::testing::Values(Case{"smollm2", Precision::kFp32}, Case{"smollm2-odd", Precision::kFp32},
                      Case{"llama3", Precision::kFp32}, Case{"llama-bias", Precision::kFp32},
                      Case{"qwen25", Precision::kFp32}, Case{"qwen3", Precision::kFp32},
                      Case{"llama3-w4a8", Precision::kW4A16}),
    [](const auto& info) {
      std::string name = info.param.model;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(Fp16, IsNothingForTheCpu) {
  const auto model = load("llama3", DeviceChoice::kCpu, Precision::kFp16);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(model.status().message().find("--device cuda"), std::string::npos);
}

// What is rounded to FP16 are the original's floats, or those that its codes stand for.
TEST(Fp16, WeightsComeAsFloats) {
  for (const auto& [name, like] :
       {std::pair{"llama3", Precision::kFp32}, std::pair{"llama3-w4a8", Precision::kW4A16}}) {
    SCOPED_TRACE(name);
    const auto source = open_model_source(testing::model_data(name));
    ASSERT_TRUE(source.ok()) << source.status().to_string();
    ThreadPool pool(2);
    const auto open = [&](Precision precision) {
      return WeightLoader::create(*source, precision, 64, StepRule::kSearch, pool);
    };
    auto half = open(Precision::kFp16);
    auto other = open(like);
    ASSERT_TRUE(half.ok() && other.ok());
    EXPECT_EQ(half->precision(), Precision::kFp16);
    const ModelGraph graph = build_graph(source->config);
    for (const LinearGroup* group : {&graph.layers[0].qkv, &graph.layers[0].down}) {
      const auto found = half->linear_group(*group);
      const auto expected = other->linear_group(*group);
      ASSERT_TRUE(found.ok() && expected.ok());
      for (std::size_t i = 0; i < expected->size(); ++i) {
        ASSERT_EQ((*found)[i].kind, WeightView::Kind::kFloat);
        EXPECT_EQ((*found)[i].f32, (*expected)[i].f32) << (*expected)[i].name;
        EXPECT_FALSE((*found)[i].f32.empty());
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm
