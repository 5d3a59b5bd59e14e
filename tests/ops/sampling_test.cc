// Sampling: the generator's known answers, every step against a reference that sorts, and the
// distribution that comes out.
#include "ops/sampling.h"

#include <algorithm>
#include <numeric>

#include "gemm/numerics.h"
#include "ops/philox.h"
#include "ops_test_util.h"

namespace liquidgemm::ops_test {
namespace {

std::vector<std::uint32_t> philox(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                                  std::uint32_t c3, std::uint32_t k0, std::uint32_t k1) {
  const PhiloxBlock r = philox4x32_10({{c0, c1, c2, c3}}, k0, k1);
  return {r.word[0], r.word[1], r.word[2], r.word[3]};
}

TEST(Philox, KnownAnswers) {
  // The vectors that come with the authors' library Random123.
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(philox(0, 0, 0, 0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox(f, f, f, f, f, f), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Uniform, IsAFunctionOfSeedAndPosition) {
  EXPECT_EQ(uniform_at(0, 0), static_cast<float>(0x6627e8) * 0x1p-24f);
  EXPECT_EQ(uniform_at(7, 9), uniform_at(7, 9));
  EXPECT_NE(uniform_at(7, 9), uniform_at(7, 10));
  EXPECT_NE(uniform_at(7, 9), uniform_at(8, 9));
  // The upper halves count too.
  EXPECT_NE(uniform_at(7, 9), uniform_at(7 + (1ull << 32), 9));
  EXPECT_NE(uniform_at(7, 9), uniform_at(7, 9 + (1ull << 32)));
  double sum = 0.0;
  const int count = 100000;
  for (int i = 0; i < count; ++i) {
    const float u = uniform_at(123, static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    sum += u;
  }
  EXPECT_NEAR(sum / count, 0.5, 0.005);
}

SampledToken sample_one(const std::vector<float>& logits, const SamplingParams& params,
                        std::uint64_t position = 0, const std::vector<TokenCount>& counts = {}) {
  std::vector<float> scratch;
  return sample(logits, params, {.counts = counts}, position, scratch);
}

TEST(CheckSampling, NamesTheField) {
  EXPECT_TRUE(check_sampling({}).ok());
  const auto message = [](auto set) {
    SamplingParams params;
    set(params);
    const Status status = check_sampling(params);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  EXPECT_EQ(message([](SamplingParams& p) { p.temperature = -1; }),
            "temperature is -1; expected a finite number of at least 0");
  const auto names = [&](const char* field, auto set) {
    EXPECT_EQ(message(set).rfind(std::string(field) + " is ", 0), 0u) << field;
  };
  names("temperature", [](SamplingParams& p) { p.temperature = kNan; });
  names("temperature", [](SamplingParams& p) { p.temperature = kInf; });
  names("top_k", [](SamplingParams& p) { p.top_k = -1; });
  names("top_p", [](SamplingParams& p) { p.top_p = 0; });
  names("top_p", [](SamplingParams& p) { p.top_p = 1.01f; });
  names("top_p", [](SamplingParams& p) { p.top_p = kNan; });
  names("min_p", [](SamplingParams& p) { p.min_p = 1; });
  names("min_p", [](SamplingParams& p) { p.min_p = -0.1f; });
  names("repetition_penalty", [](SamplingParams& p) { p.repetition_penalty = 0; });
  names("repetition_penalty", [](SamplingParams& p) { p.repetition_penalty = kInf; });
  names("presence_penalty", [](SamplingParams& p) { p.presence_penalty = 2.5f; });
  names("frequency_penalty", [](SamplingParams& p) { p.frequency_penalty = -kInf; });
}

TEST(Greedy, TakesTheLargestAndTheLowerIdOfTies) {
  std::mt19937_64 rng(fresh_seed());
  SamplingParams greedy;
  greedy.temperature = 0.0f;
  for (const std::int64_t vocabulary : {1, 2, 5, 1023, 1024, 1025, 49152, 151936}) {
    std::vector<float> logits = random_floats(rng, vocabulary, 4.0f);
    const SampledToken token = sample_one(logits, greedy);
    const auto best = std::max_element(logits.begin(), logits.end());
    EXPECT_EQ(token.token, best - logits.begin());
    EXPECT_EQ(token.logit, *best);
    const std::size_t a = rng() % logits.size(), b = rng() % logits.size();
    logits[a] = logits[b] = 100.0f;
    EXPECT_EQ(sample_one(logits, greedy).token, static_cast<int>(std::min(a, b)));
  }
  EXPECT_EQ(sample_one({-1.0f, -0.0f, 0.0f, -2.0f}, greedy).token, 1);  // -0 ties with +0
  EXPECT_EQ(sample_one({-5.0f, -kInf, -4.0f}, greedy).token, 2);
}

TEST(NonFinite, NanOrNothingFiniteIsFlagged) {
  for (const float temperature : {0.0f, 1.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    std::vector<float> logits(3000, 1.0f);
    for (const std::size_t at : {std::size_t{0}, std::size_t{1500}, std::size_t{2999}}) {
      std::vector<float> bad = logits;
      bad[at] = at == 1500 ? -kNan : kNan;
      EXPECT_EQ(sample_one(bad, params).token, -1);
    }
    EXPECT_EQ(sample_one({}, params).token, -1);
    EXPECT_EQ(sample_one({-kInf, -kInf}, params).token, -1);
    EXPECT_EQ(sample_one({kInf, -kInf}, params).token, -1);
    EXPECT_EQ(sample_one({-kInf, -7.0f, -kInf}, params).token, 1);
    EXPECT_EQ(sample_one({3.0f, kInf, 5.0f}, params).token, 1);
  }
}

TEST(Masked, MinusInfinityIsNeverDrawn) {
  std::vector<float> logits(5000, -kInf);
  logits[1234] = -1e30f;
  logits[4321] = -1e30f;
  SamplingParams params;
  params.top_k = 4000;  // more than there are finite ones
  int first = 0;
  for (std::uint64_t position = 0; position < 200; ++position) {
    const int token = sample_one(logits, params, position).token;
    ASSERT_TRUE(token == 1234 || token == 4321);
    first += token == 1234;
  }
  EXPECT_GT(first, 60);
  EXPECT_LT(first, 140);
}

TEST(Penalties, MatchTheirDefinitions) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 2.0f;
  // Hugging Face: positive logits are divided, negative ones multiplied; prompt and answer alike.
  EXPECT_EQ(sample_one({4.0f, 3.0f}, params, 0, {{0, true, 0}}).token, 1);
  EXPECT_EQ(sample_one({-1.0f, -1.5f}, params, 0, {{0, false, 3}}).token, 1);
  EXPECT_EQ(sample_one({4.0f, 1.9f}, params, 0, {{0, true, 5}}).token, 0);
  EXPECT_EQ(sample_one({4.0f, 3.0f}, params, 0, {{0, true, 0}}).logit, 3.0f);
  // The reported logit is the model's.
  params.repetition_penalty = 1.1f;
  EXPECT_EQ(sample_one({4.0f, 3.0f}, params, 0, {{0, true, 0}}).logit, 4.0f);
  params.repetition_penalty = 1.0f;
  // OpenAI: over the answer only, once and per appearance.
  params.presence_penalty = 1.0f;
  EXPECT_EQ(sample_one({4.0f, 3.5f}, params, 0, {{0, true, 0}}).token, 0);
  EXPECT_EQ(sample_one({4.0f, 3.5f}, params, 0, {{0, false, 9}}).token, 1);
  EXPECT_EQ(sample_one({4.0f, 2.9f}, params, 0, {{0, false, 9}}).token, 0);
  params.presence_penalty = 0.0f;
  params.frequency_penalty = 0.5f;
  EXPECT_EQ(sample_one({4.0f, 2.9f}, params, 0, {{0, false, 2}}).token, 0);
  EXPECT_EQ(sample_one({4.0f, 2.9f}, params, 0, {{0, false, 3}}).token, 1);
  // Tokens outside the vocabulary, infinities and overflow.
  EXPECT_EQ(sample_one({4.0f, 2.9f}, params, 0, {{-1, false, 3}, {2, false, 3}}).token, 0);
  params.repetition_penalty = 3e38f;
  EXPECT_EQ(sample_one({-kInf, -3.0f}, params, 0, {{0, true, 1}, {1, true, 1}}).token, 1);
  params.repetition_penalty = 1e-38f;
  EXPECT_EQ(sample_one({3.0f, kInf}, params, 0, {{0, true, 0}}).token, 1);
}

// The header's list of steps, with sorting and plain sums.
int reference_sample(const std::vector<float>& logits, const SamplingParams& params,
                     const std::vector<TokenCount>& counts, std::uint64_t position) {
  std::vector<float> x = logits;
  for (const TokenCount& count : counts) {
    float& value = x[static_cast<std::size_t>(count.token)];
    if (count.in_prompt || count.in_answer > 0) {
      value = value > 0 ? value / params.repetition_penalty : value * params.repetition_penalty;
    }
    if (count.in_answer > 0) {
      value -= params.frequency_penalty * static_cast<float>(count.in_answer);
      value -= params.presence_penalty;
    }
  }
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int i) { return x[static_cast<std::size_t>(i)]; };
  const float most = *std::max_element(x.begin(), x.end());
  if (params.temperature > 0) {
    for (float& v : x) v = (v - most) / params.temperature;
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return value(a) > value(b); });
  if (params.temperature == 0) return order[0];
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < order.size()) {
    order.resize(static_cast<std::size_t>(params.top_k));
  }
  const auto weight = [&](int i) -> double { return numerics::exp_contract(value(i)); };
  double total = 0.0;
  for (const int i : order) total += weight(i);
  double sum = 0.0;
  std::size_t keep = 0;
  while (keep < order.size()) {
    sum += weight(order[keep++]);
    if (sum >= params.top_p * total && params.top_p < 1.0f) break;
  }
  order.resize(keep);
  while (order.size() > 1 && weight(order.back()) < params.min_p) order.pop_back();
  std::sort(order.begin(), order.end());
  total = 0.0;
  for (const int i : order) total += weight(i);
  const double target = (uniform_at(params.seed, position) + 0x1p-25) * total;
  sum = 0.0;
  for (const int i : order) {
    sum += weight(i);
    if (sum > target) return i;
  }
  return order.back();
}

TEST(Sample, MatchesAReferenceThatSorts) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  std::vector<float> scratch;
  for (int round = 0; round < (kSanitized ? 100 : 800); ++round) {
    const std::int64_t vocabulary =
        1 + static_cast<std::int64_t>(rng() % (round % 4 == 0 ? 20000 : 300));
    std::vector<float> logits = random_floats(rng, vocabulary, round % 3 == 0 ? 0.3f : 4.0f);
    if (round % 4 == 0) {
      for (float& x : logits) x = std::round(x);  // many ties
    }
    SamplingParams params;
    params.temperature = std::vector<float>{0.0f, 0.3f, 1.0f, 1.7f}[rng() % 4];
    if (rng() % 2) params.top_k = static_cast<std::int32_t>(rng() % 400);
    if (rng() % 2) params.top_p = 0.01f + 0.99f * static_cast<float>(rng() % 1000) / 1000.0f;
    if (rng() % 3 == 0) params.min_p = static_cast<float>(rng() % 1000) / 1000.0f;
    if (rng() % 3 == 0) params.repetition_penalty = 0.5f + static_cast<float>(rng() % 100) / 50.0f;
    if (rng() % 3 == 0) params.presence_penalty = static_cast<float>(rng() % 400) / 100.0f - 2.0f;
    if (rng() % 3 == 0) params.frequency_penalty = static_cast<float>(rng() % 400) / 100.0f - 2.0f;
    params.seed = rng();
    ASSERT_TRUE(check_sampling(params).ok());
    std::vector<TokenCount> counts;
    for (std::int32_t t = 0; t < vocabulary; t += 1 + static_cast<std::int32_t>(rng() % 50)) {
      counts.push_back({t, rng() % 2 == 0, static_cast<std::int32_t>(rng() % 4)});
    }
    for (std::uint64_t position = 0; position < 5; ++position) {
      const SampledToken token = sample(logits, params, {.counts = counts}, position, scratch);
      ASSERT_EQ(token.token, reference_sample(logits, params, counts, position))
          << "round " << round << ", vocabulary " << vocabulary << ", temperature "
          << params.temperature << ", top_k " << params.top_k << ", top_p " << params.top_p
          << ", min_p " << params.min_p;
      ASSERT_EQ(token.logit, logits[static_cast<std::size_t>(token.token)]);
    }
  }
}

// Bias and mask are no more than other logits, seen by every later step.
TEST(Sample, ChangesEqualChangedLogits) {
  std::mt19937 rng(std::random_device{}());
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> scratch;
  for (int round = 0; round < 400; ++round) {
    const auto vocabulary = static_cast<std::int32_t>(40 + rng() % 3000);
    std::vector<float> logits(static_cast<std::size_t>(vocabulary));
    std::normal_distribution<float> normal(0.0f, 3.0f);
    for (float& x : logits) x = normal(rng);
    if (round % 7 == 0) logits[rng() % logits.size()] = -infinity;
    SamplingParams params;
    params.temperature = std::vector<float>{0.0f, 0.5f, 1.0f}[rng() % 3];
    if (rng() % 2) params.top_p = 0.8f;
    if (rng() % 2) params.repetition_penalty = 1.3f;
    params.seed = rng();
    std::vector<TokenCount> counts{{3, true, 0}, {11, false, 2}, {vocabulary, true, 1}};
    std::vector<float> changed = logits;
    std::vector<TokenBias> bias;
    for (std::int32_t t = 0; t < vocabulary && rng() % 4; t += 1 + static_cast<int>(rng() % 100)) {
      const float added = rng() % 5 == 0 ? -infinity : static_cast<float>(rng() % 2000) / 10 - 100;
      bias.push_back({t, added});
      changed[static_cast<std::size_t>(t)] += added;
    }
    bias.push_back({vocabulary + 5, 100.0f});
    bias.push_back({-1, 100.0f});
    std::vector<std::uint32_t> mask;
    if (rng() % 3) {
      mask.assign(static_cast<std::size_t>(vocabulary + 31) / 32, 0u);
      for (std::uint32_t& word : mask) {
        word = std::vector<std::uint32_t>{0u, ~0u, static_cast<std::uint32_t>(rng())}[rng() % 3];
      }
      mask[1] |= 1u << 3;  // an unchanged token of a finite logit, most of the time
      for (std::size_t t = 0; t < changed.size(); ++t) {
        if (((mask[t / 32] >> (t % 32)) & 1u) == 0) changed[t] = -infinity;
      }
    }
    for (std::uint64_t position = 0; position < 4; ++position) {
      const SampledToken token =
          sample(logits, params, {.bias = bias, .mask = mask, .counts = counts}, position, scratch);
      const SampledToken wanted = sample(changed, params, {.counts = counts}, position, scratch);
      ASSERT_EQ(token.token, wanted.token) << "round " << round;
      if (token.token >= 0) {
        ASSERT_EQ(token.logit, logits[static_cast<std::size_t>(token.token)]);
      }
    }
  }
}

TEST(Sample, NothingThatMayBeDrawn) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(64, 1.0f);
  std::vector<float> scratch;
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplingParams params{.temperature = temperature};
    const std::vector<std::uint32_t> none{0u, 0u}, few{0u, 2u}, shorter{8u};
    EXPECT_EQ(sample(logits, params, {.mask = none}, 0, scratch).token, -1);
    EXPECT_EQ(sample(logits, params, {.mask = few}, 0, scratch).token, 33);
    EXPECT_EQ(sample(logits, params, {.mask = shorter}, 0, scratch).token, 3);
    const std::vector<TokenBias> never{{33, -infinity}, {33, 50.0f}};
    EXPECT_EQ(sample(logits, params, {.bias = never, .mask = few}, 0, scratch).token, -1);
    // A broken model is not hidden by a mask.
    std::vector<float> broken = logits;
    broken[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(sample(broken, params, {.mask = few}, 0, scratch).token, -1);
  }
  // Finite logits stay finite: the larger one still wins.
  logits[5] = std::numeric_limits<float>::max();
  logits[6] = std::nextafter(logits[5], 0.0f);
  const std::vector<TokenBias> more{{5, 100.0f}, {6, 100.0f}};
  EXPECT_EQ(sample(logits, {.temperature = 0.0f}, {.bias = more}, 0, scratch).token, 5);
}

TEST(Sample, TiesAtTheEdgeGoToTheLowerId) {
  const std::vector<float> logits(10, 2.0f);
  SamplingParams params;
  params.top_k = 3;
  for (std::uint64_t position = 0; position < 100; ++position) {
    ASSERT_LT(sample_one(logits, params, position).token, 3);
  }
  params.top_k = 0;
  params.top_p = 0.5f;  // exactly five of ten
  int highest = 0;
  for (std::uint64_t position = 0; position < 200; ++position) {
    highest = std::max(highest, sample_one(logits, params, position).token);
  }
  EXPECT_EQ(highest, 4);
  params.top_p = 1e-30f;  // one token always stays
  EXPECT_EQ(sample_one(logits, params, 5).token, 0);
}

TEST(Sample, ATinyTemperatureIsGreedy) {
  std::mt19937_64 rng(fresh_seed());
  const std::vector<float> logits = random_floats(rng, 1000);
  SamplingParams params;
  params.temperature = 1e-40f;
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for (std::uint64_t position = 0; position < 20; ++position) {
    EXPECT_EQ(sample_one(logits, params, position).token, best);
  }
}

// Pearson's statistic over `draws` draws, against probabilities made in double.
double chi_square(const std::vector<float>& logits, const std::vector<double>& probability,
                  SamplingParams params, int draws) {
  std::vector<int> seen(logits.size(), 0);
  std::vector<float> scratch;
  for (int i = 0; i < draws; ++i) {
    ++seen[static_cast<std::size_t>(
        sample(logits, params, {}, static_cast<std::uint64_t>(i), scratch).token)];
  }
  double statistic = 0.0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double expected = probability[i] * draws;
    if (probability[i] == 0.0) {
      EXPECT_EQ(seen[i], 0) << i;
    } else {
      statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
    }
  }
  return statistic;
}

TEST(Sample, DrawsTheDistributionThatTheParametersName) {
  const int draws = kSanitized ? 5000 : 40000;
  std::vector<float> logits(20);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>((i * 7) % 20) * 0.15f;
  }
  const auto probabilities = [&](double temperature, std::size_t keep) {
    std::vector<double> p;
    for (const float x : logits) p.push_back(std::exp(x / temperature));
    std::vector<double> sorted = p;
    std::sort(sorted.rbegin(), sorted.rend());
    double total = 0.0;
    for (double& v : p) {
      if (v < sorted[keep - 1]) v = 0.0;
      total += v;
    }
    for (double& v : p) v /= total;
    return p;
  };
  // Over fixed seeds, so the outcome is fixed. 99.9 % of chi-square: 43.8 for 19 degrees of
  // freedom, 24.3 for 7.
  for (const std::uint64_t seed : {1, 2, 3}) {
    SamplingParams params;
    params.seed = seed;
    EXPECT_LT(chi_square(logits, probabilities(1.0, 20), params, draws), 43.8);
    params.temperature = 0.5f;
    EXPECT_LT(chi_square(logits, probabilities(0.5, 20), params, draws), 43.8);
    params.temperature = 1.0f;
    params.top_k = 8;
    EXPECT_LT(chi_square(logits, probabilities(1.0, 8), params, draws), 24.3);
    params.top_k = 0;
    // Between the weights of the eighth and the ninth token: exp(-1.05) and exp(-1.2).
    params.min_p = 0.33f;
    EXPECT_LT(chi_square(logits, probabilities(1.0, 8), params, draws), 24.3);
    params.min_p = 0.0f;
    const std::vector<double> all = probabilities(1.0, 20);
    std::vector<double> sorted = all;
    std::sort(sorted.rbegin(), sorted.rend());
    const double eight = std::accumulate(sorted.begin(), sorted.begin() + 8, 0.0);
    params.top_p = static_cast<float>(eight - 0.01);
    EXPECT_LT(chi_square(logits, probabilities(1.0, 8), params, draws), 24.3);
  }
}

TEST(Sample, SameRequestSameTokensWithAnyScratch) {
  std::mt19937_64 rng(fresh_seed());
  const std::vector<float> logits = random_floats(rng, 3000, 2.0f);
  SamplingParams params;
  params.top_p = 0.9f;
  params.seed = 42;
  std::vector<float> used(20000, kNan);
  for (std::uint64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(sample_one(logits, params, position).token,
              sample(logits, params, {}, position, used).token);
  }
}

}  // namespace
}  // namespace liquidgemm::ops_test
