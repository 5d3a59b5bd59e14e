// Log-probabilities on the GPU against the CPU's, on the same logits: the same floats.
#include "ops/logprobs.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "fresh_seed.h"
#include "gemm_cuda/cuda_fixture.h"
#include "ops_cuda/random_logits.h"

namespace liquidgemm::testing {
namespace {

class Scoring : public Sampling {};

TEST_F(Scoring, ScoresAreThoseOfTheCpu) {
  Rng rng(fresh_seed());
  const Stream stream;
  for (const std::int32_t vocabulary : kVocabularies) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocabulary));
    const Logits logits(rng, 2 * static_cast<std::int32_t>(RowKind::kCount), vocabulary);
    const auto any_token = [&] {
      return static_cast<std::int32_t>(rng() % static_cast<unsigned>(vocabulary));
    };
    std::vector<SampledToken> sampled = {{-1, 0.0f}};
    for (int i = 0; i < 20; ++i) sampled.push_back({any_token(), 0.0f});
    std::vector<CudaScore> scores;
    for (std::int32_t i = 0; i < 3 * logits.rows; ++i) {
      CudaScore score;
      score.logits_row = i % logits.rows;
      score.top = one_of(rng, {0, 1, 2, 5, kMaxLogprobs});
      if (rng() % 2) {
        score.token = any_token();
      } else {
        score.sample = static_cast<std::int32_t>(rng() % sampled.size());
      }
      scores.push_back(score);
    }
    const DeviceBuffer<SampledToken> device_sampled(sampled);
    const DeviceBuffer<CudaScore> device_scores(scores);
    const DeviceBuffer<CudaRowScore> out(scores.size() + 2);
    const DeviceBuffer<std::int32_t> count(
        std::vector<std::int32_t>{static_cast<std::int32_t>(scores.size())});
    CudaScoreArguments arguments;
    logits.set(arguments);
    arguments.scores = device_scores.data();
    arguments.count = count.data();
    arguments.max_count = static_cast<std::int32_t>(out.count());
    arguments.sampled = device_sampled.data();
    arguments.samples = static_cast<std::int32_t>(sampled.size());
    arguments.out = out.data();
    ASSERT_TRUE(is_ok(score_rows(arguments, stream)));

    const std::vector<CudaRowScore> found = out.download();
    const auto same_float = [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
             (std::isnan(a) && std::isnan(b));
    };
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const CudaScore& score = scores[i];
      SCOPED_TRACE("score " + std::to_string(i) + ", row " + std::to_string(score.logits_row) +
                   ", top " + std::to_string(score.top));
      TokenScore own;
      token_score(found[i], own);
      const std::int32_t token =
          score.token >= 0 ? score.token : sampled[static_cast<std::size_t>(score.sample)].token;
      if (token < 0) {
        EXPECT_TRUE(std::isnan(own.logprob));
        continue;
      }
      TokenScore expected;
      score_token(logits.row(score.logits_row), token, score.top, expected);
      ASSERT_TRUE(same_float(own.logprob, expected.logprob))
          << own.logprob << ", the CPU's is " << expected.logprob;
      ASSERT_EQ(own.count, expected.count);
      for (std::size_t j = 0; j < static_cast<std::size_t>(own.count); ++j) {
        ASSERT_EQ(own.top[j].token, expected.top[j].token) << j;
        ASSERT_TRUE(same_float(own.top[j].logprob, expected.top[j].logprob)) << j;
      }
    }
    for (std::size_t i = scores.size(); i < found.size(); ++i) {
      const auto poison = poison_value<CudaRowScore>();
      EXPECT_EQ(std::memcmp(&found[i], &poison, sizeof(poison)), 0);
    }
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST_F(Scoring, RefusesWhatItCannotDo) {
  Rng rng(fresh_seed());
  const Stream stream;
  const Logits logits(rng, 2, 100);
  CudaScoreArguments scores;
  logits.set(scores);
  scores.max_count = 1;
  EXPECT_EQ(score_rows(scores, stream).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace liquidgemm::testing
