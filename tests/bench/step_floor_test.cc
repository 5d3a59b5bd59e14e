// The floor of a generation step counts what the checkpoint stores.
#include "bench/step_floor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "bench/paper_figures.h"
#include "fresh_seed.h"
#include "model/checkpoint/dummy_source.h"
#include "model/checkpoint/presets.h"

namespace liquidgemm::bench {
namespace {

using testing::fresh_seed;

constexpr double kNever = std::numeric_limits<double>::infinity();

ModelConfig random_config(std::mt19937_64& random) {
  const auto draw = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least));
  };
  ModelConfig config;
  config.head_dim = 16 * draw(1, 4);
  config.kv_heads = draw(1, 4);
  config.heads = config.kv_heads * draw(1, 4);
  config.hidden_size = 8 * draw(4, 40);  // often no multiple of 32: INT8 layers
  config.intermediate_size = 8 * draw(4, 60);
  config.layers = draw(1, 4);
  config.vocab_size = draw(50, 400);
  config.max_position = 1024;
  config.tied_embeddings = random() % 2 == 0;
  config.qkv_bias = random() % 2 == 0;
  return config;
}

// Bytes of every tensor whose name begins so.
double stored_bytes(const ModelSource& source, const std::string& prefix) {
  double bytes = 0.0;
  for (const TensorInfo& tensor : source.tensors->tensors()) {
    if (tensor.name.rfind(prefix + ".", 0) == 0) bytes += static_cast<double>(tensor.bytes);
  }
  return bytes;
}

double of(const OperationSeconds& floor, Operation kind) {
  return floor[static_cast<std::size_t>(kind)];
}

TEST(StepFloor, BytesAreThoseOfTheTensors) {
  const std::uint64_t seed = fresh_seed();
  std::mt19937_64 random(seed);
  for (int round = 0; round < 8; ++round) {
    const ModelSource source =
        dummy_source("dummy", random_config(random), random() % 2 == 0 ? 32 : 64, seed);
    const ModelGraph graph = build_graph(source.config);
    const StepLoad load{.batch = 1 + static_cast<std::int64_t>(random() % 300),
                        .context_tokens = static_cast<double>(random() % 5000),
                        .kv_token_bytes = static_cast<double>(1 + random() % 1000)};
    double qkv = 0.0, down = 0.0;
    for (std::int64_t i = 0; i < source.config.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i);
      for (const char* part : {"q", "k", "v"}) {
        qkv += stored_bytes(source, layer + ".self_attn." + part + "_proj");
      }
      down += stored_bytes(source, layer + ".mlp.down_proj");
    }
    const double head =
        stored_bytes(source, source.config.tied_embeddings ? "model.embed_tokens" : "lm_head");
    const OperationSeconds floor = step_floor(graph, load, {1.0, kNever});
    EXPECT_DOUBLE_EQ(of(floor, Operation::kQkv), qkv);
    EXPECT_DOUBLE_EQ(of(floor, Operation::kDown), down);
    EXPECT_DOUBLE_EQ(of(floor, Operation::kLmHead), head);
    EXPECT_NEAR(of(floor, Operation::kAttention), load.context_tokens * load.kv_token_bytes, 1e-3);
    EXPECT_EQ(of(floor, Operation::kSample), 0.0);
    EXPECT_DOUBLE_EQ(step_bytes(graph, load), floor_seconds(floor));
  }
}

TEST(StepFloor, EachKernelHasItsOwnBound) {
  const std::uint64_t seed = fresh_seed();
  std::mt19937_64 random(seed);
  const ModelSource source = dummy_source("dummy", random_config(random), 32, seed);
  const ModelConfig& config = source.config;
  const ModelGraph graph = build_graph(config);
  StepLoad load{.batch = 7, .context_tokens = 100.0, .kv_token_bytes = 10.0};
  const double o =
      2.0 * 7.0 *
      static_cast<double>(config.layers * config.hidden_size * config.heads * config.head_dim);
  const OperationSeconds operations = step_floor(graph, load, {kNever, 1.0});
  EXPECT_DOUBLE_EQ(of(operations, Operation::kOutput), o);
  EXPECT_EQ(of(operations, Operation::kAttention), 0.0);
  // The larger of the two, kind by kind.
  const Ceilings ceilings{1.0 + static_cast<double>(random() % 100),
                          1.0 + static_cast<double>(random() % 1000)};
  const OperationSeconds bytes = step_floor(graph, load, {1.0, kNever});
  const OperationSeconds both = step_floor(graph, load, ceilings);
  for (std::size_t i = 0; i < both.size(); ++i) {
    const double expected = std::max(bytes[i] / ceilings.read_bytes_per_second,
                                     operations[i] / ceilings.int8_operations_per_second);
    EXPECT_NEAR(both[i], expected, 1e-9 * expected) << i;
  }
}

TEST(StepFloor, AnFp16HeadIsReadAndMultipliedInTwoBytes) {
  const std::uint64_t seed = fresh_seed();
  std::mt19937_64 random(seed);
  const ModelSource source =
      dummy_source("dummy", random_config(random), 32, seed, WeightScheme::kFp16);
  const ModelConfig& config = source.config;
  const double values = static_cast<double>(config.vocab_size * config.hidden_size);
  const StepLoad load{.batch = 9, .context_tokens = 100.0, .kv_token_bytes = 10.0};
  const ModelGraph graph = build_graph(config);
  EXPECT_DOUBLE_EQ(of(step_floor(graph, load, {1.0, kNever}), Operation::kLmHead), 2.0 * values);
  // At the rate of INT8 operations, each twice.
  EXPECT_DOUBLE_EQ(of(step_floor(graph, load, {kNever, 1.0}), Operation::kLmHead),
                   2.0 * 2.0 * 9.0 * values);
}

TEST(PaperFigures, BelongToPresetsAndStayBelowTheirFloor) {
  int known = 0;
  for (const std::string& name : preset_names()) {
    for (std::int64_t batch = 1; batch <= 512; ++batch) {
      const auto figure = paper_figure(name, batch);
      if (!figure) continue;
      ++known;
      const ModelSource source = dummy_source(name, *preset_config(name), 64, 0);
      const auto comparison = compare_with_paper(build_graph(source.config), name, batch);
      ASSERT_TRUE(comparison);
      EXPECT_EQ(comparison->figure.tokens_per_second, figure->tokens_per_second);
      EXPECT_LT(figure->tokens_per_second, comparison->floor_tokens_per_second) << name;
      EXPECT_GT(figure->tokens_per_second, 0.1 * comparison->floor_tokens_per_second) << name;
    }
  }
  EXPECT_EQ(known, 4);
  EXPECT_FALSE(paper_figure("llama3-8b", 255));
  EXPECT_FALSE(paper_figure("", 256));
}

TEST(StepFloor, HalfWeightsAreTwoBytesAtHalfTheRate) {
  const std::uint64_t seed = fresh_seed();
  std::mt19937_64 random(seed);
  const ModelSource source = dummy_source("dummy", random_config(random), 64, seed);
  const ModelGraph graph = build_graph(source.config);
  StepLoad load{.batch = 7, .context_tokens = 0.0, .kv_token_bytes = 0.0, .half_weights = true};
  double weights = static_cast<double>(source.config.vocab_size * source.config.hidden_size);
  double biases = 0.0;
  for (const DecoderLayer& layer : graph.layers) {
    for (const LinearGroup* group : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
      weights += static_cast<double>(group->n * group->k);
      for (const LinearName& part : group->parts) {
        if (part.bias) biases += 4.0 * static_cast<double>(part.n);
      }
    }
  }
  EXPECT_NEAR(step_bytes(graph, load), 2.0 * weights + biases, 1e-9 * weights);
  // Bytes for nothing: operations alone.
  const Ceilings operations{kNever, 1.0};
  const double half = floor_seconds(step_floor(graph, load, operations));
  load.half_weights = false;
  EXPECT_NEAR(half, 2.0 * floor_seconds(step_floor(graph, load, operations)), 1e-9 * half);
}

}  // namespace
}  // namespace liquidgemm::bench
