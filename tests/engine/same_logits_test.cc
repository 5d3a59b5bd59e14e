// Logits through the engine, bit for bit: a request alone, in company, preempted, and with its
// prefix found in the cache.
#include <cstring>
#include <map>

#include "engine/engine.h"
#include "engine/model_fixture.h"
#include "fresh_seed.h"

namespace liquidgemm {
namespace {

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // of every token, row after row
  RequestRecord record;
};

bool same(const Answer& a, const Answer& b) {
  return a.tokens == b.tokens && a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

std::map<RequestId, Answer> run(Engine& engine, Backend& backend) {
  std::map<RequestId, Answer> answers;
  while (!engine.idle()) {
    const auto updates = engine.step();
    EXPECT_TRUE(updates.ok()) << updates.status().to_string();
    if (!updates.ok()) break;
    for (std::size_t i = 0; i < updates->size(); ++i) {
      const Update& update = (*updates)[i];
      Answer& answer = answers[update.request];
      answer.tokens.push_back(update.token);
      const std::span<const float> logits = backend.logits(static_cast<std::int64_t>(i));
      answer.logits.insert(answer.logits.end(), logits.begin(), logits.end());
      if (update.record) answer.record = *update.record;
    }
  }
  return answers;
}

struct Case {
  const char* model;
  KvFormat kv_format;
  DeviceChoice device = DeviceChoice::kCpu;
};

class SameLogits : public ::testing::TestWithParam<Case> {};

TEST_P(SameLogits, AloneInCompanyPreemptedAndAfterAPrefixHit) {
  if (const std::string reason = no_gpu(GetParam().device); !reason.empty()) GTEST_SKIP() << reason;
  const std::uint64_t seed = testing::fresh_seed();
  std::mt19937 random(static_cast<unsigned>(seed));
  TestModelOptions options;
  options.kv_format = GetParam().kv_format;
  options.device = GetParam().device;
  options.threads = 2;
  options.max_rows = 200;
  options.max_logits_rows = 8;
  options.pages = 60;
  LoadedModel roomy = load_test_model(GetParam().model, options);
  options.max_rows = 70;
  // Two start, with at most 4 pages each, and need at least 6 before the first one ends.
  options.pages = 10;
  LoadedModel tight = load_test_model(GetParam().model, options);

  // All begin alike; half of them with another salt.
  const auto common = random_tokens(random, 150, roomy.config.vocab_size);
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    Request request;
    request.prompt = common;
    request.prompt.resize(i == 5 ? 128 : 130 + random() % 20);
    const auto own = random_tokens(random, i == 5 ? 0 : random() % 60, roomy.config.vocab_size);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.max_tokens = 220 + static_cast<std::int64_t>(random() % 20);
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.2f;
    request.sampling.seed = random();
    request.sampling.repetition_penalty = i % 2 == 0 ? 1.3f : 1.0f;
    request.sampling.presence_penalty = i % 3 == 1 ? 0.4f : 0.0f;
    request.cache_salt = i % 2 == 0 ? "" : "other";
    requests.push_back(std::move(request));
  }
  std::vector<Answer> alone;
  for (const Request& request : requests) {
    Engine engine(*roomy.backend, {.prefix_caching = false});
    ASSERT_TRUE(engine.submit(request).ok());
    alone.push_back(run(engine, *roomy.backend)[1]);
    ASSERT_EQ(static_cast<std::int64_t>(alone.back().tokens.size()), request.max_tokens);
  }
  const auto compare = [&](std::map<RequestId, Answer> answers, RequestId first,
                           const std::string& how) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(same(answers[first + static_cast<RequestId>(i)], alone[i]))
          << how << ", request " << i;
    }
  };

  Engine company(*roomy.backend, {.prompt_chunk = 33, .prefix_caching = false});
  for (const Request& request : requests) ASSERT_TRUE(company.submit(request).ok());
  compare(run(company, *roomy.backend), 1, "company");
  EXPECT_EQ(company.metrics().preemptions, 0);

  Engine cached(*roomy.backend);
  for (const RequestId first : {1, 7}) {
    for (const Request& request : requests) ASSERT_TRUE(cached.submit(request).ok());
    auto answers = run(cached, *roomy.backend);
    compare(answers, first, "prefix caching");
    for (RequestId id = first; first == 7 && id < 13; ++id) {
      const std::int64_t prompt = answers[id].record.prompt_tokens;
      EXPECT_EQ(answers[id].record.cached_tokens, (prompt - 1) / kPageTokens * kPageTokens);
    }
  }
  EXPECT_GT(cached.metrics().prefix_hit_tokens, 0);

  for (const bool prefix_caching : {false, true}) {
    Engine scarce(*tight.backend, {.prefix_caching = prefix_caching});
    for (const Request& request : requests) ASSERT_TRUE(scarce.submit(request).ok());
    compare(run(scarce, *tight.backend), 1, "scarce pages");
    if (!prefix_caching) {
      EXPECT_GT(scarce.metrics().preemptions, 0);
    }
    EXPECT_EQ(scarce.metrics().pages_used, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, SameLogits,
    ::testing::Values(Case{"llama3", KvFormat::kF16}, Case{"llama3", KvFormat::kInt8},
                      Case{"qwen3", KvFormat::kF16}, Case{"qwen3", KvFormat::kInt8},
                      Case{"qwen25", KvFormat::kBf16}, Case{"llama3", KvFormat::kInt8Static},
                      Case{"llama3", KvFormat::kF16, DeviceChoice::kCuda},
                      Case{"smollm2-odd", KvFormat::kInt8, DeviceChoice::kCuda},
                      Case{"qwen25", KvFormat::kInt8, DeviceChoice::kCuda},
                      Case{"qwen3", KvFormat::kInt4, DeviceChoice::kCuda},
                      Case{"qwen25", KvFormat::kBf16, DeviceChoice::kCuda},
                      Case{"llama3", KvFormat::kInt8Static, DeviceChoice::kCuda}),
    [](const auto& info) {
      std::string name = std::string(info.param.model) + "_" +
                         std::string(kv_format_name(info.param.kv_format)) +
                         (info.param.device == DeviceChoice::kCuda ? "_gpu" : "");
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

}  // namespace
}  // namespace liquidgemm
