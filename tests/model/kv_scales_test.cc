// Scales of a static INT8 cache: measured, stored, refused where they are missing or wrong.
#include "model/kv_scales.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>

#include "checkpoint/file_builders.h"
#include "fresh_seed.h"
#include "model/checkpoint/dummy_source.h"
#include "model/goldens.h"
#include "model/kv_calibration.h"
#include "model/quantizer.h"
#include "model/scaled_source.h"

namespace liquidgemm {
namespace {

using testing::open;
using testing::TempFolder;

std::vector<TokenId> random_tokens(std::mt19937_64& random, std::size_t count,
                                   std::int64_t vocabulary) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocabulary));
  }
  return tokens;
}

std::vector<KvScales> measured(const ModelSource& source, std::span<const TokenId> tokens,
                               std::int64_t window, int threads) {
  ThreadPool pool(threads);
  const std::atomic<bool> stop = false;
  auto scales = measure_kv_scales(source, tokens, {.window = window}, pool, stop);
  EXPECT_TRUE(scales.ok()) << scales.status().to_string();
  return scales.ok() ? std::move(*scales) : std::vector<KvScales>{};
}

bool equal(const std::vector<KvScales>& a, const std::vector<KvScales>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.k == y.k && x.v == y.v; });
}

LoadOptions with_cache(KvFormat format) {
  LoadOptions options;
  options.limits = {.max_rows = 64,
                    .max_sequences = 1,
                    .max_logits_rows = 64,
                    .max_position = 128,
                    .pages = 2,
                    .kv_format = format};
  options.threads = 2;
  options.text = false;
  return options;
}

TEST(KvScales, ThreadsDoNotChangeThemAndMoreTextOnlyRaisesThem) {
  const std::uint64_t seed = testing::fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const char* name : {"llama3", "qwen3", "qwen25"}) {
    SCOPED_TRACE(name);
    const ModelSource source = open(testing::model_data(name));
    const auto tokens = random_tokens(random, 150, source.config.vocab_size);
    const auto all = measured(source, tokens, 70, 1);
    ASSERT_EQ(all.size(), static_cast<std::size_t>(source.config.layers));
    EXPECT_TRUE(equal(all, measured(source, tokens, 70, 3)));
    const auto some = measured(source, std::span(tokens).first(70), 70, 2);
    const auto head_dim = static_cast<std::size_t>(source.config.head_dim);
    const std::size_t half = head_dim / 2;
    bool grew = false;
    for (std::size_t layer = 0; layer < all.size(); ++layer) {
      const std::vector<float>&k = all[layer].k, &v = all[layer].v;
      ASSERT_EQ(k.size(), static_cast<std::size_t>(source.config.kv_heads) * head_dim);
      ASSERT_EQ(v.size(), k.size());
      for (std::size_t i = 0; i < k.size(); ++i) {
        EXPECT_TRUE(std::isnormal(k[i]) && k[i] > 0 && std::isnormal(v[i]) && v[i] > 0);
        EXPECT_GE(k[i], some[layer].k[i]);
        EXPECT_GE(v[i], some[layer].v[i]);
        grew = grew || v[i] > some[layer].v[i];
        if (i % head_dim < half) {
          EXPECT_EQ(k[i], k[i + half]);
        }
      }
    }
    EXPECT_TRUE(grew);
  }
}

TEST(KvScales, AQuantizedCheckpointHoldsThemAndRunsWithThem) {
  const std::uint64_t seed = testing::fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const ModelSource source = open(testing::model_data("llama3"));
  const auto tokens = random_tokens(random, 64, source.config.vocab_size);
  TempFolder folder;
  ThreadPool pool(2);
  const std::atomic<bool> stop = false;
  QuantizeOptions options;
  options.kv_scales = measured(source, tokens, 64, 2);
  const std::string with = folder.file("with");
  auto report = quantize_model(source, with, options, pool, stop);
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  const ModelSource quantized = open(with);
  for (std::size_t layer = 0; layer < options.kv_scales.size(); ++layer) {
    const auto number = static_cast<std::int64_t>(layer);
    for (const auto& [tensor, scales] :
         {std::pair(k_scale_tensor(number), options.kv_scales[layer].k),
          std::pair(v_scale_tensor(number), options.kv_scales[layer].v)}) {
      std::vector<float> stored(scales.size());
      ASSERT_TRUE(quantized.tensors->read_rows(tensor, 0, 1, stored.data()).ok());
      EXPECT_EQ(stored, scales) << tensor;
    }
  }

  // What the codes cost is near to what those of a scale a token cost.
  std::vector<std::int32_t> positions(tokens.size());
  for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<std::int32_t>(i);
  const auto logits = [&](KvFormat format) {
    auto model = load_model(quantized, with_cache(format));
    EXPECT_TRUE(model.ok()) << model.status().to_string();
    return testing::run_logits(*model->backend, tokens, positions, 64);
  };
  const auto exact = logits(KvFormat::kF32);
  const auto difference = [&](KvFormat format) {
    const auto some = logits(format);
    double off = 0, size = 0;
    for (std::size_t i = 0; i < some.size(); ++i) {
      for (std::size_t j = 0; j < some[i].size(); ++j) {
        off += std::pow(static_cast<double>(some[i][j]) - static_cast<double>(exact[i][j]), 2);
        size += std::pow(static_cast<double>(exact[i][j]), 2);
      }
    }
    return std::sqrt(off / size);
  };
  const double of_static = difference(KvFormat::kInt8Static);
  const double of_dynamic = difference(KvFormat::kInt8);
  std::printf("of the RMS: static %.4f, a scale a token %.4f\n", of_static, of_dynamic);
  EXPECT_LT(of_static, 3 * of_dynamic);
  EXPECT_GT(of_static, 0);

  // Of another model: nothing is written.
  options.kv_scales.pop_back();
  EXPECT_EQ(quantize_model(source, folder.file("short"), options, pool, stop).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(KvScales, RandomWeightsHaveThem) {
  const ModelConfig config = open(testing::model_data("qwen3")).config;
  const auto model =
      load_model(dummy_source("dummy", config, 64, 1), with_cache(KvFormat::kInt8Static));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const std::vector<TokenId> tokens{1, 2, 3};
  const std::vector<std::int32_t> positions{2};
  const auto logits = testing::run_logits(*model->backend, tokens, positions, 3);
  for (const float logit : logits.at(0)) ASSERT_TRUE(std::isfinite(logit));
}

TEST(KvScales, MissingOnesSayWhatMakesThem) {
  for (const char* name : {"llama3", "llama3-w4a8"}) {
    const auto model =
        load_model(open(testing::model_data(name)), with_cache(KvFormat::kInt8Static));
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), StatusCode::kNotFound);
    for (const char* part : {"model.layers.0.self_attn.k_scale", "liquid quantize --kv-scales"}) {
      EXPECT_NE(model.status().message().find(part), std::string::npos) << model.status().message();
    }
  }
}

TEST(KvScales, OnesThatAreNoScalesAreNamed) {
  std::mt19937_64 random(testing::fresh_seed());
  for (const float bad : {0.0f, -1.0f, 1e-40f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    ModelSource source = open(testing::model_data("llama3"));
    const auto width = static_cast<std::size_t>(source.config.kv_heads * source.config.head_dim);
    std::vector<KvScales> scales(
        static_cast<std::size_t>(source.config.layers),
        {std::vector<float>(width, 0.05f), std::vector<float>(width, 0.05f)});
    const std::size_t at = random() % width;
    scales.back().v[at] = bad;
    add_kv_scales(source, scales);
    const auto model = load_model(source, with_cache(KvFormat::kInt8Static));
    ASSERT_FALSE(model.ok()) << bad;
    const std::string tensor = v_scale_tensor(source.config.layers - 1);
    EXPECT_NE(model.status().message().find(tensor + ": element " + std::to_string(at)),
              std::string::npos)
        << model.status().message();
  }
}

TEST(KvScales, NothingToReadIsAnErrorAndStopStops) {
  const ModelSource source = open(testing::model_data("llama3"));
  ThreadPool pool(1);
  std::atomic<bool> stop = false;
  EXPECT_EQ(measure_kv_scales(source, {}, {}, pool, stop).status().code(),
            StatusCode::kInvalidArgument);
  stop = true;
  const std::vector<TokenId> tokens{1, 2, 3};
  EXPECT_EQ(measure_kv_scales(source, tokens, {}, pool, stop).status().code(),
            StatusCode::kCancelled);
}

}  // namespace
}  // namespace liquidgemm
