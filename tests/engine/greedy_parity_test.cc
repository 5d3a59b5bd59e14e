// Greedy answers of the CPU, and of something that rounds another way, side by side and counted:
// 64 prompts of a text, 64 tokens each, batched alike.
//
// What rounds another way is the GPU's attention, or on the CPU alone a float32 cache. Either
// moves some values across the middle between two INT8 steps, and the noise of that grows through
// the layers (docs/numerics.md). So an answer is compared until it leaves the CPU's. It may leave
//
//   * where the CPU's best two logits lie closer than twice kBound of their RMS,
//   * or than twice three times the RMS by which all logits of that position differ,
//
// and the GPU's logits may not differ more than those with a float32 cache do.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "engine/engine.h"
#include "engine/model_fixture.h"
#include "model/quantizer.h"
#include "smollm2_path.h"

namespace liquidgemm {
namespace {

constexpr int kPrompts = 64;
constexpr std::int64_t kShortestPrompt = 8;
constexpr std::int64_t kAnswer = 64;
constexpr std::int64_t kLongest = kShortestPrompt + kPrompts - 1 + kAnswer;
constexpr double kBound = 2e-2;

// What one position's logits say, and how far another's are from them.
struct Position {
  TokenId best = 0;
  double gap = 0.0;         // from the best to the second best, over the RMS
  double difference = 0.0;  // RMS of the differences, over the RMS
};

Position compare(std::span<const float> logits, std::span<const float> others) {
  Position position;
  float first = -INFINITY, second = -INFINITY;
  double size = 0.0, off = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > first) {
      second = std::exchange(first, logits[i]);
      position.best = static_cast<TokenId>(i);
    } else {
      second = std::max(second, logits[i]);
    }
    const double x = static_cast<double>(logits[i]), d = static_cast<double>(others[i]) - x;
    size += x * x;
    off += d * d;
  }
  const double rms = std::sqrt(size / static_cast<double>(logits.size()));
  position.gap = (static_cast<double>(first) - static_cast<double>(second)) / rms;
  position.difference = std::sqrt(off / size);
  return position;
}

// Each begins elsewhere in the text, and is one token longer than the one before.
std::vector<std::vector<TokenId>> prompts_of(const Tokenizer& tokenizer) {
  std::ifstream file(std::string(LIQUIDGEMM_TEST_DATA) + "/../../data/devils-dictionary.txt");
  std::stringstream text;
  text << file.rdbuf();
  const std::vector<TokenId> tokens = tokenizer.encode(text.str(), false);
  const std::int64_t apart = static_cast<std::int64_t>(tokens.size()) / kPrompts;
  std::vector<std::vector<TokenId>> prompts;
  if (apart < kShortestPrompt + kPrompts) return prompts;
  for (std::int64_t i = 0; i < kPrompts; ++i) {
    const auto begin = tokens.begin() + i * apart;
    prompts.emplace_back(begin, begin + kShortestPrompt + i);
  }
  return prompts;
}

Result<LoadedModel> load(const ModelSource& source, DeviceChoice device, KvFormat kv_format) {
  LoadOptions options;
  options.precision = Precision::kW4A8;
  options.device = device;
  options.group_size = default_group_size(source.config);
  options.limits = {.max_rows = 512,
                    .max_sequences = kPrompts,
                    .max_logits_rows = kPrompts,
                    .max_position = kLongest,
                    .pages = kPrompts * pages_for(kLongest),
                    .kv_format = kv_format};
  return load_model(source, options);
}

// How the answers of two models compare.
struct Tally {
  int equal = 0;
  int within_bound = 0;  // parted where the best two are closer than twice kBound
  int within_noise = 0;  // elsewhere, but closer than six times that position's difference
  int elsewhere = 0;
  double most_noises = 0;           // the widest of those gaps, in differences of its position
  std::vector<double> differences;  // of the positions that were compared, ascending

  double median() const { return differences[differences.size() / 2]; }
  void print(const std::string& name) const {
    const auto close = std::lower_bound(differences.begin(), differences.end(), kBound);
    std::printf(
        "%s, %d answers of %d tokens: %d equal, %d part where the best two are within %.2f of the "
        "RMS, %d within the noise there (widest %.1f times it), %d elsewhere; logits of %zu "
        "positions differ by %.4f of the RMS (median), %.4f (worst), %.0f %% of them by less than "
        "%.2f\n",
        name.c_str(), kPrompts, static_cast<int>(kAnswer), equal, within_bound, 2.0 * kBound,
        within_noise, most_noises, elsewhere, differences.size(), median(), differences.back(),
        100.0 * static_cast<double>(close - differences.begin()) /
            static_cast<double>(differences.size()),
        kBound);
  }
};

void count_answers(const LoadedModel& model, const LoadedModel& other, Tally& tally) {
  const EngineOptions options{.prefix_caching = false};
  Engine first(*model.backend, options);
  Engine second(*other.backend, options);
  const auto prompts = prompts_of(*model.tokenizer);
  ASSERT_EQ(prompts.size(), std::size_t{kPrompts}) << "the text is too short";
  for (const std::vector<TokenId>& prompt : prompts) {
    Request request;
    request.prompt = prompt;
    request.sampling.temperature = 0.0f;
    request.max_tokens = kAnswer;
    ASSERT_TRUE(first.submit(request).ok());
    ASSERT_TRUE(second.submit(request).ok());
  }
  std::map<RequestId, std::int64_t> tokens;
  std::set<RequestId> parted;
  while (!first.idle()) {
    const auto ours = first.step();
    const auto theirs = second.step();
    ASSERT_TRUE(ours.ok()) << ours.status().to_string();
    ASSERT_TRUE(theirs.ok()) << theirs.status().to_string();
    ASSERT_EQ(ours->size(), theirs->size());
    for (std::size_t i = 0; i < ours->size(); ++i) {
      const Update& update = (*ours)[i];
      ASSERT_EQ(update.request, (*theirs)[i].request);
      ++tokens[update.request];
      if (parted.count(update.request) != 0) continue;
      const auto row = static_cast<std::int64_t>(i);
      const Position position = compare(model.backend->logits(row), other.backend->logits(row));
      ASSERT_EQ(update.token, position.best);
      tally.differences.push_back(position.difference);
      if (update.token == (*theirs)[i].token) continue;
      parted.insert(update.request);
      if (position.gap < 2.0 * kBound) {
        ++tally.within_bound;
        continue;
      }
      tally.most_noises = std::max(tally.most_noises, position.gap / position.difference);
      ++(position.gap < 6.0 * position.difference ? tally.within_noise : tally.elsewhere);
    }
  }
  ASSERT_TRUE(second.idle());
  ASSERT_EQ(tokens.size(), std::size_t{kPrompts});
  for (const auto& [request, count] : tokens) EXPECT_EQ(count, kAnswer) << request;
  tally.equal = kPrompts - static_cast<int>(parted.size());
  std::sort(tally.differences.begin(), tally.differences.end());
}

constexpr const char* kSmolLm2 = "SmolLM2-135M";

class GreedyParity : public ::testing::TestWithParam<const char*> {
 protected:
  // On the CPU, and with a float32 cache.
  void open(const std::string& path) {
    auto source = open_model_source(path);
    ASSERT_TRUE(source.ok()) << source.status().to_string();
    source_.emplace(std::move(*source));
    for (const KvFormat format : {KvFormat::kF16, KvFormat::kF32}) {
      auto model = load(*source_, DeviceChoice::kCpu, format);
      ASSERT_TRUE(model.ok()) << model.status().to_string();
      (format == KvFormat::kF16 ? cpu_ : exact_) = std::move(*model);
    }
    count_answers(cpu_, exact_, noise_);
    if (HasFatalFailure()) return;
    noise_.print(std::string(GetParam()) + ", f16 and f32 cache on the CPU");
    EXPECT_EQ(noise_.elsewhere, 0);
  }
  static std::string path() {
    if (std::string(GetParam()) == kSmolLm2) return smollm2_path();
    return std::string(LIQUIDGEMM_TEST_DATA) + "/model/" + GetParam();
  }

  std::optional<ModelSource> source_;
  LoadedModel cpu_, exact_;
  Tally noise_;
};

class CacheParity : public GreedyParity {};

TEST_P(CacheParity, AnswersPartOnlyWhereRoundingCanDoIt) { open(path()); }

TEST_P(GreedyParity, AnswersOnTheGpuPartOnlyWhereRoundingCanDoIt) {
  if (const std::string reason = no_gpu(DeviceChoice::kCuda); !reason.empty()) {
    GTEST_SKIP() << reason;
  }
  if (!std::filesystem::exists(path())) {
    GTEST_SKIP() << "needs " << path()
                 << ": scripts/demo.sh downloads it; LIQUIDGEMM_SMOLLM2 "
                    "names another file, or a folder that `liquid quantize` has made of it";
  }
  open(path());
  if (HasFatalFailure()) return;
  const auto gpu = load(*source_, DeviceChoice::kCuda, KvFormat::kF16);
  ASSERT_TRUE(gpu.ok()) << gpu.status().to_string();
  ASSERT_TRUE(gpu->on_gpu);
  Tally tally;
  count_answers(cpu_, *gpu, tally);
  if (HasFatalFailure()) return;
  tally.print(std::string(GetParam()) + ", CPU and GPU");
  EXPECT_EQ(tally.elsewhere, 0);
  EXPECT_LT(tally.median(), 1.5 * noise_.median());
}

std::string name_of(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, CacheParity, ::testing::Values("llama3", "qwen25", "qwen3"),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Models, GreedyParity,
                         ::testing::Values(kSmolLm2, "smollm2", "smollm2-odd", "llama3", "llama31",
                                           "llama-bias", "qwen25", "qwen3"),
                         name_of);

}  // namespace
}  // namespace liquidgemm
