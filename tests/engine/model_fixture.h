// Loads the small random checkpoints of tests/data/model for tests of whole models.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/cuda_backend.h"
#include "model/goldens.h"
#include "model/kv_calibration.h"
#include "model/load.h"
#include "model/scaled_source.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {

struct TestModelOptions {
  Precision precision = Precision::kW4A8;
  KvFormat kv_format = KvFormat::kF16;
  int threads = 1;
  std::int64_t max_rows = 256;
  std::int64_t max_sequences = 8;
  std::int64_t max_logits_rows = 256;
  std::int64_t max_position = 640;
  std::int64_t pages = 100;
  std::optional<Isa> isa;
  DeviceChoice device = DeviceChoice::kCpu;
};

// These checkpoints have no scales of their own.
inline void add_measured_kv_scales(ModelSource& source) {
  std::vector<TokenId> tokens(200);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<TokenId>(7 * i % static_cast<std::size_t>(source.config.vocab_size));
  }
  ThreadPool pool(2);
  const std::atomic<bool> stop = false;
  auto scales = measure_kv_scales(source, tokens, {}, pool, stop);
  EXPECT_TRUE(scales.ok()) << scales.status().to_string();
  if (scales.ok()) add_kv_scales(source, *scales);
}

inline LoadOptions load_options(const TestModelOptions& options) {
  LoadOptions load;
  load.precision = options.precision;
  load.threads = options.threads;
  load.isa = options.isa;
  load.device = options.device;
  load.limits = {.max_rows = options.max_rows,
                 .max_sequences = options.max_sequences,
                 .max_logits_rows = options.max_logits_rows,
                 .max_position = options.max_position,
                 .pages = options.pages,
                 .kv_format = options.kv_format};
  return load;
}

// GoogleTest reports the exception as a failure of the running test.
inline LoadedModel load_model_at(const std::string& path, const TestModelOptions& options) {
  auto source = open_model_source(path);
  if (!source.ok()) throw std::runtime_error(source.status().to_string());
  if (options.kv_format == KvFormat::kInt8Static) add_measured_kv_scales(*source);
  auto model = load_model(*source, load_options(options));
  if (!model.ok()) throw std::runtime_error(model.status().to_string());
  return std::move(*model);
}

inline LoadedModel load_test_model(const std::string& name, const TestModelOptions& options) {
  return load_model_at(testing::model_data(name), options);
}

// Why a test of the GPU's backend cannot run here; empty: it can.
inline std::string no_gpu(DeviceChoice device) {
  if (device != DeviceChoice::kCuda) return "";
  const Status usable = cuda_usable();
  return usable.ok() ? "" : "no GPU to test on: " + usable.message();
}

inline std::vector<TokenId> random_tokens(std::mt19937& random, std::int64_t count,
                                          std::int64_t vocabulary) {
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<std::uint32_t>(vocabulary));
  }
  return tokens;
}

// One sequence alone, `chunk` tokens a step: the logits after every token, row-major.
inline std::vector<float> all_logits(Backend& backend, const std::vector<TokenId>& tokens,
                                     std::int64_t chunk, const std::vector<std::int32_t>& pages) {
  std::vector<float> result;
  const auto total = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t first = 0; first < total; first += chunk) {
    const std::int64_t count = std::min(chunk, total - first);
    const SequenceRows sequence{.first_row = 0,
                                .rows = static_cast<std::int32_t>(count),
                                .context = static_cast<std::int32_t>(first),
                                .pages = pages};
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
    std::iota(rows.begin(), rows.end(), 0);
    const Status status =
        backend.step({.tokens = std::span(tokens).subspan(static_cast<std::size_t>(first),
                                                          static_cast<std::size_t>(count)),
                      .sequences = {&sequence, 1},
                      .logits_rows = rows,
                      .samples = {}});
    EXPECT_TRUE(status.ok()) << status.to_string();
    for (std::int64_t row = 0; row < count; ++row) {
      const std::span<const float> logits = backend.logits(row);
      result.insert(result.end(), logits.begin(), logits.end());
    }
  }
  return result;
}

}  // namespace liquidgemm
