// Logits depend on the request's tokens alone: never on the batch, the chunks, the threads, the
// instruction set or where the pages lie.

#include <cstring>

#include "engine/model_fixture.h"

namespace liquidgemm {
namespace {

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Case {
  const char* model;
  Precision precision;
  KvFormat kv_format;
  DeviceChoice device = DeviceChoice::kCpu;
};

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = std::string(info.param.model) + "_" +
                     std::string(precision_name(info.param.precision)) + "_" +
                     std::string(kv_format_name(info.param.kv_format)) +
                     (info.param.device == DeviceChoice::kCuda ? "_gpu" : "");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class BatchIndependence : public ::testing::TestWithParam<Case> {};

TEST_P(BatchIndependence, AnyChunksThreadsCompanyAndPages) {
  if (const std::string reason = no_gpu(GetParam().device); !reason.empty()) GTEST_SKIP() << reason;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  TestModelOptions options;
  options.precision = GetParam().precision;
  options.kv_format = GetParam().kv_format;
  options.device = GetParam().device;
  options.max_rows = 320;
  options.max_logits_rows = 320;
  LoadedModel one = load_test_model(GetParam().model, options);
  options.threads = 2;
  LoadedModel two = load_test_model(GetParam().model, options);
  const std::int64_t vocabulary = one.config.vocab_size;

  // 300 tokens: past the first attention split.
  const std::vector<TokenId> tokens = random_tokens(random, 300, vocabulary);
  const std::vector<float> golden = all_logits(*one.backend, tokens, 300, {0, 1, 2, 3, 4});
  for (const std::int64_t chunk : {1, 17, 64, 300}) {
    for (LoadedModel* model : {&one, &two}) {
      const std::vector<std::int32_t> pages{77, 3, 41, 40, 99};
      EXPECT_TRUE(same_bits(golden, all_logits(*model->backend, tokens, chunk, pages)))
          << "chunk " << chunk << ", " << model->pool->threads() << " threads";
    }
  }

  // Among seven others, each at its own place in its own text, in a random order in every step.
  Backend& backend = *two.backend;
  struct Other {
    std::vector<TokenId> tokens;
    std::vector<std::int32_t> pages;
    std::int64_t done = 0;
  };
  std::vector<Other> all(8);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].tokens = i == 0 ? tokens : random_tokens(random, 300, vocabulary);
    for (std::int32_t page = 0; page < 5; ++page) {
      all[i].pages.push_back(static_cast<std::int32_t>(i) + 8 * page);
    }
  }
  std::vector<float> among;
  while (all[0].done < 300) {
    std::shuffle(all.begin() + 1, all.end(), random);
    std::vector<Other*> order;
    for (Other& other : all) order.push_back(&other);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<TokenId> step_tokens;
    std::vector<SequenceRows> sequences;
    std::vector<std::int32_t> logits_rows;
    std::int64_t first_logits = 0;
    std::int64_t mine = 0;
    for (Other* other : order) {
      const std::int64_t left = 300 - other->done;
      const std::int64_t count = std::min<std::int64_t>(left, 1 + random() % 40);
      if (count <= 0) continue;
      const auto first_row = static_cast<std::int32_t>(step_tokens.size());
      if (other == all.data()) {
        first_logits = static_cast<std::int64_t>(logits_rows.size());
        mine = count;
      }
      for (std::int32_t row = 0; row < count; ++row) logits_rows.push_back(first_row + row);
      const auto begin = other->tokens.begin() + other->done;
      step_tokens.insert(step_tokens.end(), begin, begin + count);
      sequences.push_back({.first_row = first_row,
                           .rows = static_cast<std::int32_t>(count),
                           .context = static_cast<std::int32_t>(other->done),
                           .pages = other->pages});
      other->done += count;
    }
    const Status status = backend.step(
        {.tokens = step_tokens, .sequences = sequences, .logits_rows = logits_rows, .samples = {}});
    ASSERT_TRUE(status.ok()) << status.to_string();
    for (std::int64_t row = 0; row < mine; ++row) {
      const std::span<const float> logits = backend.logits(first_logits + row);
      among.insert(among.end(), logits.begin(), logits.end());
    }
  }
  EXPECT_TRUE(same_bits(golden, among)) << "among others";
}

INSTANTIATE_TEST_SUITE_P(Models, BatchIndependence,
                         ::testing::Values(Case{"llama3", Precision::kW4A8, KvFormat::kF16},
                                           Case{"qwen3", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"qwen25", Precision::kW8A8, KvFormat::kF16},
                                           Case{"smollm2-odd", Precision::kW4A8, KvFormat::kInt8},
                                           Case{"qwen3", Precision::kW4A8, KvFormat::kBf16},
                                           Case{"llama31", Precision::kW4A8, KvFormat::kInt8Static},
                                           Case{"llama31", Precision::kFp32, KvFormat::kF16}),
                         case_name);

constexpr DeviceChoice kGpu = DeviceChoice::kCuda;
INSTANTIATE_TEST_SUITE_P(
    GpuModels, BatchIndependence,
    ::testing::Values(Case{"llama3", Precision::kW4A8, KvFormat::kF16, kGpu},
                      Case{"llama31", Precision::kW4A8, KvFormat::kInt4, kGpu},
                      Case{"qwen3", Precision::kW4A8, KvFormat::kInt8, kGpu},
                      Case{"qwen25", Precision::kW8A8, KvFormat::kF16, kGpu},
                      Case{"llama3", Precision::kW4A8, KvFormat::kBf16, kGpu},
                      Case{"qwen3", Precision::kW4A8, KvFormat::kInt8Static, kGpu},
                      Case{"smollm2-odd", Precision::kW4A8, KvFormat::kInt8, kGpu}),
    case_name);

// Token by token there is one row and few KV heads, so several workers share a row's context; 600
// tokens are three splits, which combine in order whoever is done first.
TEST(Attention, AContextSharedByWorkersGivesTheSameLogits) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::vector<std::int32_t> pages{9, 3, 41, 40, 99, 0, 17, 18, 2, 50};
  for (const char* name : {"llama31", "llama3"}) {
    TestModelOptions options;
    LoadedModel one = load_test_model(name, options);
    const auto tokens = random_tokens(random, 600, one.config.vocab_size);
    const std::vector<float> golden = all_logits(*one.backend, tokens, 200, pages);
    for (const int threads : {2, 3}) {
      options.threads = threads;
      LoadedModel several = load_test_model(name, options);
      EXPECT_TRUE(same_bits(golden, all_logits(*several.backend, tokens, 1, pages)))
          << name << ", " << threads << " threads";
    }
  }
}

TEST(InstructionSets, GiveTheSameLogits) {
  std::mt19937 random(std::random_device{}());
  TestModelOptions options;
  std::vector<float> golden;
  for (const Isa isa : kIsas) {
    if (!check_isa(isa).ok()) {
      std::printf("%s is not on this machine: skipped\n", std::string(isa_name(isa)).c_str());
      continue;
    }
    for (const Precision precision : {Precision::kW4A8, Precision::kW4A16}) {
      options.precision = precision;
      options.isa = isa;
      LoadedModel model = load_test_model("llama3", options);
      std::mt19937 same(7);
      const auto tokens = random_tokens(same, 70, model.config.vocab_size);
      const std::vector<float> logits = all_logits(*model.backend, tokens, 70, {0, 1});
      if (isa == Isa::kScalar) {
        golden.insert(golden.end(), logits.begin(), logits.end());
      } else {
        const auto begin =
            golden.begin() + (precision == Precision::kW4A8 ? 0 : static_cast<long>(logits.size()));
        EXPECT_TRUE(same_bits(logits, {begin, begin + static_cast<long>(logits.size())}))
            << isa_name(isa) << " " << precision_name(precision);
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm
