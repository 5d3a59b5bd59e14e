// Sampling on the GPU against the CPU's, on the same logits: always the same token.
#include "ops/sampling.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "fresh_seed.h"
#include "gemm_cuda/cuda_fixture.h"
#include "gemm_cuda/graph.h"
#include "ops_cuda/random_logits.h"

namespace liquidgemm::testing {
namespace {

// ---- Samples -----------------------------------------------------------------------------------

float random_top_p(Rng& rng) {
  const float any = static_cast<float>(1 + rng() % 1000) / 1000.0f;
  return one_of(rng, {1.0f, 1.0f, 1e-6f, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f, 0.99999994f, any});
}

// Samples with their lists, as the arrays that the device reads.
struct Samples {
  std::vector<CudaSample> list;
  std::vector<TokenBias> biases;
  std::vector<TokenCount> counts;
  std::vector<std::uint32_t> masks;

  void add_params(Rng& rng, const Logits& logits) {
    const std::int32_t vocabulary = logits.vocabulary;
    CudaSample sample;
    sample.logits_row = static_cast<std::int32_t>(rng() % static_cast<unsigned>(logits.rows));
    sample.temperature = one_of(
        rng, {0.0f, 0.3f, 0.7f, 1.0f, 1.0f, 1.7f, 1e-40f, 1e-30f, 1e-3f, 100.0f, 1e9f, FLT_MAX});
    if (rng() % 2 == 0) {
      const auto any = static_cast<std::int32_t>(1 + rng() % static_cast<unsigned>(vocabulary));
      sample.top_k = one_of(rng, {1, 2, 40, 1024, vocabulary - 1, vocabulary, INT32_MAX, any});
    }
    sample.top_p = random_top_p(rng);
    if (rng() % 3 == 0) sample.min_p = one_of(rng, {1e-30f, 0.01f, 0.2f, 0.9f});
    sample.seed = rng();
    sample.position = rng() % 2 ? rng() : rng() % 100;
    list.push_back(sample);
  }

  void add_changes(Rng& rng, const Logits& logits) {
    const auto vocabulary = static_cast<std::uint64_t>(logits.vocabulary);
    CudaSample& sample = list.back();
    const auto token = [&] {
      if (rng() % 20 == 0) return one_of(rng, {-1, logits.vocabulary, INT32_MAX, INT32_MIN});
      return static_cast<std::int32_t>(rng() % std::min<std::uint64_t>(vocabulary, 3000));
    };
    if (rng() % 2 == 0) {
      sample.bias_begin = static_cast<std::int32_t>(biases.size());
      sample.bias_count = static_cast<std::int32_t>(rng() % 200);
      for (std::int32_t i = 0; i < sample.bias_count; ++i) {
        const float small = std::normal_distribution<float>(0.0f, 5.0f)(rng);
        const float large = one_of(rng, {-kInf, FLT_MAX, -FLT_MAX, 100.0f, -100.0f});
        biases.push_back({token(), rng() % 8 == 0 ? large : small});
      }
    }
    if (rng() % 2 == 0) {
      sample.repetition_penalty = one_of(rng, {1.0f, 1.1f, 0.5f, 3e38f, 1e-38f});
      sample.presence_penalty = one_of(rng, {0.0f, 2.0f, -1.3f});
      sample.frequency_penalty = one_of(rng, {0.0f, 0.7f, -2.0f});
      sample.counts_begin = static_cast<std::int32_t>(counts.size());
      std::vector<std::int32_t> tokens(rng() % 1500);
      for (std::int32_t& t : tokens) t = token();
      std::sort(tokens.begin(), tokens.end());
      tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
      std::shuffle(tokens.begin(), tokens.end(), rng);
      sample.counts_count = static_cast<std::int32_t>(tokens.size());
      for (const std::int32_t t : tokens) {
        counts.push_back({t, rng() % 2 == 0, static_cast<std::int32_t>(rng() % 4)});
      }
    }
    if (rng() % 2 == 0) {
      sample.mask_begin = static_cast<std::int64_t>(masks.size());
      const std::uint64_t whole = (vocabulary + 31) / 32;
      sample.mask_words = static_cast<std::int32_t>(rng() % 2 ? whole : 1 + rng() % whole);
      const int density = one_of(rng, {0, 1, 2, 2, 2});
      for (std::int32_t i = 0; i < sample.mask_words; ++i) {
        const auto word = static_cast<std::uint32_t>(rng());
        masks.push_back(density == 2                      ? word
                        : density == 0 || rng() % 64 != 0 ? 0
                                                          : 1u << word % 32);
      }
    }
  }

  SampledToken expected(const Logits& logits, std::size_t i, std::vector<float>& scratch) const {
    const CudaSample& sample = list[i];
    const auto part = [](const auto& all, std::int64_t begin, std::int32_t count) {
      return std::span(all).subspan(static_cast<std::size_t>(begin),
                                    static_cast<std::size_t>(count));
    };
    SamplingParams params;
    params.temperature = sample.temperature;
    params.top_k = sample.top_k;
    params.top_p = sample.top_p;
    params.min_p = sample.min_p;
    params.repetition_penalty = sample.repetition_penalty;
    params.presence_penalty = sample.presence_penalty;
    params.frequency_penalty = sample.frequency_penalty;
    params.seed = sample.seed;
    EXPECT_TRUE(is_ok(check_sampling(params)));
    LogitChanges changes;
    changes.bias = part(biases, sample.bias_begin, sample.bias_count);
    changes.counts = part(counts, sample.counts_begin, sample.counts_count);
    changes.mask = part(masks, sample.mask_begin, sample.mask_words);
    return liquidgemm::sample(logits.row(sample.logits_row), params, changes, sample.position,
                              scratch);
  }

  std::string describe(std::size_t i) const {
    const CudaSample& s = list[i];
    return "sample " + std::to_string(i) + ": row " + std::to_string(s.logits_row) +
           ", temperature " + std::to_string(s.temperature) + ", top_k " + std::to_string(s.top_k) +
           ", top_p " + std::to_string(s.top_p) + ", min_p " + std::to_string(s.min_p) + ", " +
           std::to_string(s.bias_count) + " biases, " + std::to_string(s.counts_count) +
           " counts, " + std::to_string(s.mask_words) + " words of mask";
  }
};

// Device memory for up to `max_count` samples and their lists.
struct SampleBuffers {
  explicit SampleBuffers(std::int32_t max_count, std::size_t biases = 1, std::size_t counts = 1,
                         std::size_t masks = 1)
      : samples(static_cast<std::size_t>(max_count)),
        count(1),
        biases(biases),
        counts(counts),
        masks(masks),
        sampled(static_cast<std::size_t>(max_count)),
        workspace(sample_workspace_bytes(max_count)) {
    workspace.fill(0);
  }
  SampleBuffers(std::int32_t max_count, const Samples& from)
      : SampleBuffers(max_count, from.biases.size() + 1, from.counts.size() + 1,
                      from.masks.size() + 1) {
    upload(from);
  }
  void upload(const Samples& from) const {
    samples.upload(from.list);
    biases.upload(from.biases);
    counts.upload(from.counts);
    masks.upload(from.masks);
    count.upload(std::vector{static_cast<std::int32_t>(from.list.size())});
    sampled.fill(DeviceBuffer<SampledToken>::kPoison);
  }
  CudaSampleArguments arguments(const Logits& logits) const {
    CudaSampleArguments arguments;
    logits.set(arguments);
    arguments.samples = samples.data();
    arguments.count = count.data();
    arguments.max_count = static_cast<std::int32_t>(samples.count());
    arguments.biases = biases.data();
    arguments.counts = counts.data();
    arguments.masks = masks.data();
    arguments.sampled = sampled.data();
    arguments.workspace = workspace.data();
    return arguments;
  }
  void expect_guards_intact() const {
    EXPECT_TRUE(sampled.guards_intact());
    EXPECT_TRUE(workspace.guards_intact());
  }

  DeviceBuffer<CudaSample> samples;
  DeviceBuffer<std::int32_t> count;
  DeviceBuffer<TokenBias> biases;
  DeviceBuffer<TokenCount> counts;
  DeviceBuffer<std::uint32_t> masks;
  DeviceBuffer<SampledToken> sampled;
  DeviceBuffer<std::uint8_t> workspace;
};

::testing::AssertionResult same(const SampledToken& found, const SampledToken& expected) {
  if (found.token == expected.token &&
      std::bit_cast<std::uint32_t>(found.logit) == std::bit_cast<std::uint32_t>(expected.logit)) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure()
         << "token " << found.token << " of logit " << found.logit << ", the CPU's is "
         << expected.token << " of logit " << expected.logit;
}

// What lies in `sampled`: the CPU's tokens, then poison.
void expect_same(const Logits& logits, const Samples& samples, const SampleBuffers& buffers) {
  const std::vector<SampledToken> found = buffers.sampled.download();
  const auto poison = poison_value<SampledToken>();
  std::vector<float> scratch;
  int wrong = 0;
  for (std::size_t i = 0; i < found.size() && wrong < 5; ++i) {
    const bool known = i < samples.list.size();
    const auto result = same(found[i], known ? samples.expected(logits, i, scratch) : poison);
    if (result) continue;
    ++wrong;
    ADD_FAILURE() << result.message() << "; " << (known ? samples.describe(i) : "behind the last");
  }
  buffers.expect_guards_intact();
}

// ---- Tests -------------------------------------------------------------------------------------

TEST_F(Sampling, TokensAreThoseOfTheCpu) {
  Rng rng(fresh_seed());
  const Stream stream;
  for (const std::int32_t vocabulary : kVocabularies) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocabulary));
    const Logits logits(rng, static_cast<std::int32_t>(RowKind::kCount), vocabulary);
    Samples samples;
    const int count = vocabulary > 100000 ? 150 : 400;
    for (int i = 0; i < count; ++i) {
      samples.add_params(rng, logits);
      if (i % 3 == 0) samples.add_changes(rng, logits);
    }
    const SampleBuffers buffers(count + 3, samples);
    for (int round = 0; round < 2; ++round) {  // the first leaves the workspace ready
      ASSERT_TRUE(is_ok(sample_rows(buffers.arguments(logits), stream)));
      expect_same(logits, samples, buffers);
      buffers.sampled.fill(DeviceBuffer<SampledToken>::kPoison);
    }
  }
}

TEST_F(Sampling, GreedyOnEveryKindOfRow) {
  Rng rng(fresh_seed());
  const Stream stream;
  for (const std::int32_t vocabulary : kVocabularies) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocabulary));
    const Logits logits(rng, 2 * static_cast<std::int32_t>(RowKind::kCount), vocabulary);
    Samples samples;
    for (std::int32_t row = 0; row < logits.rows; ++row) {
      CudaSample sample;
      sample.logits_row = row;
      sample.temperature = 0.0f;
      samples.list.push_back(sample);
    }
    const SampleBuffers buffers(logits.rows, samples);
    CudaSampleArguments arguments = buffers.arguments(logits);
    for (const bool plain_greedy : {false, true}) {
      arguments.plain_greedy = plain_greedy;
      ASSERT_TRUE(is_ok(sample_rows(arguments, stream)));
      expect_same(logits, samples, buffers);
      buffers.sampled.fill(DeviceBuffer<SampledToken>::kPoison);
    }
  }
}

// Every row against every cut, so that each kind meets ties, infinities and sums out of reach.
TEST_F(Sampling, EveryCutOnEveryKindOfRow) {
  Rng rng(fresh_seed());
  const Stream stream;
  for (const std::int32_t vocabulary : {7, 1000, 32000, 128256}) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocabulary));
    const Logits logits(rng, static_cast<std::int32_t>(RowKind::kCount), vocabulary);
    Samples samples;
    for (std::int32_t row = 0; row < logits.rows; ++row) {
      for (const std::int32_t top_k : {0, 1, 3, vocabulary / 2}) {
        for (const float top_p : {1e-6f, 0.5f, 0.9f, 0.99999994f, 1.0f}) {
          CudaSample sample;
          sample.logits_row = row;
          sample.temperature = one_of(rng, {0.5f, 1.0f, 2.0f});
          sample.top_k = top_k;
          sample.top_p = top_p;
          sample.min_p = one_of(rng, {0.0f, 0.0f, 0.1f});
          sample.seed = rng();
          samples.list.push_back(sample);
        }
      }
    }
    const SampleBuffers buffers(static_cast<std::int32_t>(samples.list.size()), samples);
    ASSERT_TRUE(is_ok(sample_rows(buffers.arguments(logits), stream)));
    expect_same(logits, samples, buffers);
  }
}

// The nearer two sums in different orders lie, the more draws it takes to see them apart.
TEST_F(Sampling, AHundredThousandDrawsAreTheSame) {
  Rng rng(fresh_seed());
  const Stream stream;
  constexpr std::int32_t kVocabulary = 1500, kRows = 64, kEach = 4000, kRounds = 25;
  const SampleBuffers buffers(kEach);
  int differ = 0;
  for (int round = 0; round < kRounds; ++round) {
    Logits logits(rng, kRows, kVocabulary);
    for (std::int32_t row = 0; row < kRows; ++row) {
      const auto kind = one_of(rng, {RowKind::kNormal, RowKind::kFlat, RowKind::kPeaked});
      const std::vector<float> values = random_row(rng, kind, kVocabulary);
      std::copy(values.begin(), values.end(),
                logits.values.begin() + static_cast<std::ptrdiff_t>(logits.begin(row)));
    }
    logits.device->upload(logits.values);
    Samples samples;
    for (int i = 0; i < kEach; ++i) {
      CudaSample sample;
      sample.logits_row = i % kRows;
      sample.temperature = 0.5f + static_cast<float>(rng() % 1000) / 1000.0f;
      sample.top_p = static_cast<float>(1 + rng() % 1000) / 1000.0f;
      sample.seed = rng();
      samples.list.push_back(sample);
    }
    buffers.upload(samples);
    ASSERT_TRUE(is_ok(sample_rows(buffers.arguments(logits), stream)));
    const std::vector<SampledToken> found = buffers.sampled.download();
    std::vector<float> scratch;
    for (std::size_t i = 0; i < found.size(); ++i) {
      differ += same(found[i], samples.expected(logits, i, scratch)) ? 0 : 1;
    }
  }
  EXPECT_EQ(differ, 0) << "of " << kEach * kRounds;
}

TEST_F(Sampling, AGraphReplaysWithNewSamples) {
  Rng rng(fresh_seed());
  const Stream stream;
  constexpr std::int32_t kMost = 40;
  Logits logits(rng, kMost, 5000);
  const SampleBuffers buffers(kMost, 10000, 100000, 10000);
  const Graph graph(stream, [&] { return sample_rows(buffers.arguments(logits), stream); });
  for (const int count : {40, 1, 0, 17, 40}) {
    SCOPED_TRACE(count);
    logits.fill(rng, static_cast<int>(rng() % 100));
    logits.device->upload(logits.values);
    Samples samples;
    for (int i = 0; i < count; ++i) {
      samples.add_params(rng, logits);
      if (rng() % 2 == 0) samples.add_changes(rng, logits);
    }
    buffers.upload(samples);
    graph.replay(stream);
    stream.wait();
    expect_same(logits, samples, buffers);
  }
}

// One workspace for calls of different sizes; a row that does not exist; a broken promise.
TEST_F(Sampling, WhatIsOutOfOrderEndsThatSampleAlone) {
  Rng rng(fresh_seed());
  const Stream stream;
  const Logits logits(rng, 4, 3000);
  Samples samples;
  for (int i = 0; i < 30; ++i) samples.add_params(rng, logits);
  const SampleBuffers buffers(30, samples);
  CudaSampleArguments arguments = buffers.arguments(logits);
  arguments.count = nullptr;
  for (const std::int32_t count : {30, 1, 11, 30}) {
    arguments.max_count = count;
    ASSERT_TRUE(is_ok(sample_rows(arguments, stream)));
  }
  expect_same(logits, samples, buffers);

  Samples bad = samples;
  bad.list[0].logits_row = -1;
  bad.list[1].logits_row = 4;
  bad.list[2].temperature = 0.5f;
  buffers.upload(bad);
  for (const bool plain_greedy : {false, true}) {
    arguments.plain_greedy = plain_greedy;
    ASSERT_TRUE(is_ok(sample_rows(arguments, stream)));
    const std::vector<SampledToken> found = buffers.sampled.download();
    std::vector<float> scratch;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const bool lost = i < 2 || (plain_greedy && bad.list[i].temperature > 0.0f);
      const SampledToken none;
      EXPECT_TRUE(same(found[i], lost ? none : bad.expected(logits, i, scratch))) << i;
    }
  }
}

TEST_F(Sampling, RefusesWhatItCannotDo) {
  Rng rng(fresh_seed());
  const Stream stream;
  const Logits logits(rng, 2, 100);
  Samples samples;
  samples.add_params(rng, logits);
  const SampleBuffers buffers(1, samples);
  const CudaSampleArguments good = buffers.arguments(logits);
  const auto refused = [&](auto spoil) {
    CudaSampleArguments arguments = good;
    spoil(arguments);
    EXPECT_EQ(sample_rows(arguments, stream).code(), StatusCode::kInvalidArgument);
  };
  using Arguments = CudaSampleArguments;
  refused([](Arguments& a) { a.vocabulary = 0; });
  refused([](Arguments& a) { a.vocabulary = kMaxCudaVocabulary + 1; });
  refused([](Arguments& a) { a.max_count = 0; });
  refused([](Arguments& a) { a.max_count = kMaxCudaSamples + 1; });
  refused([](Arguments& a) { a.logits = nullptr; });
  refused([](Arguments& a) { a.rows = 0; });
  refused([](Arguments& a) { a.ld = 99; });
  refused([](Arguments& a) { a.samples = nullptr; });
  refused([](Arguments& a) { a.sampled = nullptr; });
  refused([](Arguments& a) { a.workspace = nullptr; });
  refused([](Arguments& a) { a.workspace = static_cast<std::uint8_t*>(a.workspace) + 4; });
}

}  // namespace
}  // namespace liquidgemm::testing
