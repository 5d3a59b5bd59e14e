// The benchmarks of whole models measure what they say.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "bench/latency.h"
#include "bench/model_cost.h"
#include "bench/throughput.h"
#include "fresh_seed.h"
#include "model/checkpoint/dummy_source.h"
#include "model/checkpoint/presets.h"
#include "model/load.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::bench {
namespace {

const std::atomic<bool> kNoInterrupt{false};

using testing::fresh_seed;

ModelConfig small_config(bool tied) {
  ModelConfig config;
  config.hidden_size = 128;
  config.intermediate_size = 320;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 32;
  config.vocab_size = 500;
  config.max_position = 1024;
  config.tied_embeddings = tied;
  return config;
}

LoadedModel load(const ModelConfig& config, const BackendLimits& limits, std::uint64_t seed) {
  const ModelSource source = dummy_source("dummy", config, 64, seed);
  LoadOptions options;
  options.threads = 1;
  options.limits = limits;
  options.text = false;
  auto model = load_model(source, options);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return std::move(*model);
}

TEST(ModelCost, CountsEveryLinearLayer) {
  const auto config = preset_config("1b");
  ASSERT_TRUE(config.ok());
  const ModelOperations operations = model_operations(*config);
  const double weights = 16.0 * 2048 * (2048 + 2 * 512 + 2048 + 3 * 8192);
  EXPECT_EQ(operations.token, 2 * weights);
  EXPECT_EQ(operations.logits, 2.0 * 2048 * 32000);
}

TEST(ModelCost, MemoryIsEstimatedFromAbove) {
  for (const bool tied : {true, false}) {
    const BackendLimits limits{.max_rows = 64, .max_position = 512, .pages = 40};
    const LoadedModel model = load(small_config(tied), limits, 1);
    const ModelConfig& config = model.backend->graph().config;
    const double used = static_cast<double>(model.backend->weight_bytes()) +
                        static_cast<double>(config.vocab_size * config.hidden_size) +
                        static_cast<double>(model.backend->page_bytes() * limits.pages);
    EXPECT_GE(model_bytes(config, limits), used);
    EXPECT_LE(model_bytes(config, limits), 2.0 * used);
  }
}

TEST(Latency, RowsOfRandomCellsAreWhole) {
  const std::uint64_t seed = fresh_seed();
  std::mt19937_64 random(seed);
  for (int round = 0; round < 6; ++round) {
    const LatencyCell cell{.input_len = 1 + static_cast<std::int64_t>(random() % 150),
                           .output_len = 2 + static_cast<std::int64_t>(random() % 12),
                           .batch = 1 + static_cast<std::int64_t>(random() % 9)};
    constexpr std::int64_t kRows = 32;
    const std::int64_t longest = longest_sequence(cell, kRows);
    const LoadedModel model = load(small_config(true),
                                   {.max_rows = kRows,
                                    .max_sequences = cell.batch,
                                    .max_logits_rows = cell.batch,
                                    .max_position = longest,
                                    .pages = cell.batch * pages_for(longest)},
                                   seed);
    LatencyRun run(*model.backend, cell, seed, kNoInterrupt);
    ASSERT_TRUE(run.prompt().ok());
    const Status generated = run.generate();
    ASSERT_TRUE(generated.ok()) << generated.message();
    // The mean over the steps of the sum over requests, from its definition.
    const auto steps = static_cast<double>(cell.output_len - 1);
    const auto batch = static_cast<double>(cell.batch);
    const double context =
        batch * (static_cast<double>(cell.input_len) + 1.0 + 0.5 * (steps - 1.0)) +
        static_cast<double>(run.early_tokens());
    EXPECT_NEAR(run.context_tokens(), context, 1e-6 * context);

    int repetitions = 0;
    const auto row =
        measure_latency(*model.backend, cell, {.iterations = 2, .breakdown = true, .seed = seed},
                        kNoInterrupt, [&] { ++repetitions; });
    ASSERT_TRUE(row.ok()) << row.status().message();
    EXPECT_EQ(row->iterations, 2);
    EXPECT_EQ(repetitions, 2);
    EXPECT_GT(row->prompt_seconds, 0.0);
    EXPECT_GT(row->step_seconds, 0.0);
    const ModelOperations operations = model_operations(model.config);
    EXPECT_GE(row->prompt_operations,
              batch * static_cast<double>(cell.input_len) * operations.token);
    EXPECT_GT(row->step_bytes, static_cast<double>(model.backend->weight_bytes()));
    for (const auto& [seconds, whole] :
         {std::pair{row->breakdown->prompt, row->breakdown->prompt_seconds},
          std::pair{row->breakdown->step, row->breakdown->step_seconds}}) {
      EXPECT_LE(std::accumulate(seconds.begin(), seconds.end(), 0.0), whole);
      EXPECT_TRUE(std::all_of(seconds.begin(), seconds.end(), [](double s) { return s > 0.0; }));
    }
  }
}

TEST(Latency, TheBudgetEndsRepetitionsAndCtrlCEndsAll) {
  const LatencyCell cell{.input_len = 40, .output_len = 8, .batch = 1};
  const LoadedModel model = load(small_config(false), {}, 3);
  const auto row = measure_latency(
      *model.backend, cell, {.iterations = 1000, .budget_seconds = 1e-9}, kNoInterrupt, [] {});
  ASSERT_TRUE(row.ok()) << row.status().message();
  EXPECT_EQ(row->iterations, 1);
  const std::atomic<bool> interrupt{true};
  EXPECT_EQ(measure_latency(*model.backend, cell, {}, interrupt, [] {}).status().code(),
            StatusCode::kCancelled);
}

TEST(TimedBackend, GivesTheSameTokens) {
  const std::uint64_t seed = fresh_seed();
  const LoadedModel model = load(small_config(true), {}, seed);
  TimedBackend timed(*model.backend);
  std::vector<TokenId> answers[2];
  Backend* const backends[] = {model.backend.get(), &timed};
  for (int i = 0; i < 2; ++i) {
    Engine engine(*backends[i]);
    Request request;
    request.prompt = {1, 2, 3, 4, 5, 6, 7};
    request.max_tokens = 20;
    request.sampling.seed = seed;
    ASSERT_TRUE(engine.submit(std::move(request)).ok());
    while (!engine.idle()) {
      const auto updates = engine.step();
      ASSERT_TRUE(updates.ok()) << updates.status().message();
      for (const Update& update : *updates) answers[i].push_back(update.token);
    }
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_EQ(answers[0].size(), 20u);
}

TEST(Throughput, LengthsAreWithinTheirRangeAndComeFromTheSeed) {
  ThroughputCell cell{.prompts = 2000, .input_len = 100, .output_len = 10, .range_ratio = 0.5};
  cell.seed = fresh_seed();
  const auto lengths = request_lengths(cell);
  std::int64_t least = 1000, most = 0, sum = 0;
  for (const RequestLengths& one : lengths) {
    least = std::min(least, one.input);
    most = std::max(most, one.input);
    sum += one.input;
    EXPECT_GE(one.output, 5);
    EXPECT_LE(one.output, 15);
  }
  EXPECT_EQ(least, 50);
  EXPECT_EQ(most, longest_request(cell).input);
  EXPECT_EQ(most, 150);
  EXPECT_NEAR(static_cast<double>(sum) / 2000.0, 100.0, 5.0);
  const auto again = request_lengths(cell);
  EXPECT_TRUE(std::equal(lengths.begin(), lengths.end(), again.begin(),
                         [](const RequestLengths& a, const RequestLengths& b) {
                           return a.input == b.input && a.output == b.output;
                         }));
  cell.range_ratio = 0.0;
  for (const RequestLengths& one : request_lengths(cell)) EXPECT_EQ(one.input, 100);
  cell.range_ratio = 0.99;
  cell.output_len = 1;
  for (const RequestLengths& one : request_lengths(cell)) EXPECT_GE(one.output, 1);
}

TEST(Throughput, ACommonPrefixIsFoundInTheCache) {
  const LoadedModel model = load(small_config(true), {.max_rows = 48, .max_sequences = 4}, 5);
  ThroughputCell cell{.prompts = 5, .input_len = 20, .output_len = 3};
  cell.seed = fresh_seed();
  cell.max_sequences = 1;
  cell.prefix_len = 70;
  std::int64_t steps = 0;
  for (const bool prefix_caching : {false, true}) {
    cell.prefix_caching = prefix_caching;
    EXPECT_EQ(longest_request(cell).input, 90);
    const auto row = measure_throughput(*model.backend, cell, kNoInterrupt, [](std::int64_t) {});
    ASSERT_TRUE(row.ok()) << row.status().message();
    EXPECT_EQ(row->prompt_tokens, 5 * 90);
    EXPECT_EQ(row->output_tokens, 5 * 3);
    EXPECT_EQ(row->prefix_hit_tokens, prefix_caching ? 4 * 64 : 0);
    EXPECT_EQ(row->prefix_query_tokens, prefix_caching ? 5 * 90 : 0);
    // A prompt of 90 tokens takes two steps, one of 26 takes one.
    if (prefix_caching) {
      EXPECT_EQ(row->steps, steps - 4);
    }
    steps = row->steps;
  }
}

TEST(Throughput, EveryRequestGetsItsTokens) {
  const LoadedModel model = load(small_config(true), {.max_rows = 48, .max_sequences = 4}, 5);
  ThroughputCell cell{.prompts = 13, .input_len = 30, .output_len = 6, .range_ratio = 0.4};
  cell.seed = fresh_seed();
  std::int64_t most_steps = 0;
  for (const std::int64_t at_once : {1, 4}) {
    cell.max_sequences = at_once;
    std::int64_t done = 0;
    const auto row = measure_throughput(*model.backend, cell, kNoInterrupt,
                                        [&](std::int64_t count) { done += count; });
    ASSERT_TRUE(row.ok()) << row.status().message();
    EXPECT_EQ(done, 13);
    std::int64_t input = 0, output = 0;
    for (const RequestLengths& one : request_lengths(cell)) {
      input += one.input;
      output += one.output;
    }
    EXPECT_EQ(row->prompt_tokens, input);
    EXPECT_EQ(row->output_tokens, output);
    if (at_once == 1) {
      EXPECT_EQ(row->steps, output) << "one request at a time: every prompt fits into one step";
      most_steps = row->steps;
    } else {
      EXPECT_LT(row->steps, most_steps / 2);
    }
  }
  EXPECT_TRUE(run_every_batch(*model.backend, cell, kNoInterrupt).ok());
  const auto prompts = prompts_for(1e-9, *model.backend, cell, kNoInterrupt);
  ASSERT_TRUE(prompts.ok());
  EXPECT_EQ(*prompts, 2);
}

}  // namespace
}  // namespace liquidgemm::bench
