// What is sent, when, and where to.
#include "bench/serve_workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>

#include "bench/serve_target.h"
#include "fresh_seed.h"

namespace liquidgemm::bench {
namespace {

using testing::fresh_seed;
using Ids = std::vector<std::int32_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const Ids& ids_of(const ServePrompt& prompt) { return std::get<Ids>(prompt.content); }

TEST(ArrivalTimes, HaveTheRateAndTheSpreadOfTheirShape) {
  const std::uint64_t seed = fresh_seed();
  constexpr std::int64_t kRequests = 20'000;
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    const std::vector<double> times = arrival_times(kRequests, 8.0, burstiness, seed);
    ASSERT_EQ(times.size(), static_cast<std::size_t>(kRequests));
    EXPECT_NEAR(times.back(), kRequests / 8.0, 1e-6);
    double squares = 0.0;
    double last = 0.0;
    for (const double time : times) {
      ASSERT_GE(time, last);
      squares += (time - last) * (time - last);
      last = time;
    }
    // Gaps of a gamma distribution of shape b: variance / mean^2 = 1 / b. Six standard errors.
    const double relative = squares / kRequests * 64.0 - 1.0;
    const double error = std::sqrt((2.0 + 6.0 / burstiness) / kRequests) / burstiness;
    EXPECT_NEAR(relative, 1.0 / burstiness, 6.0 * error) << burstiness;
    // The first half takes about half of the time: the process is stationary.
    EXPECT_NEAR(times[kRequests / 2] / times.back(), 0.5, 6.0 / std::sqrt(burstiness * kRequests));
  }
}

TEST(ArrivalTimes, CanBeEvenOrAllAtOnce) {
  const std::vector<double> even = arrival_times(4, 2.0, kInfinity, 0);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(even[i], 0.5 * static_cast<double>(i + 1));
  EXPECT_EQ(arrival_times(3, kInfinity, 1.0, 0), (std::vector<double>{0, 0, 0}));
  EXPECT_TRUE(arrival_times(0, 1.0, 1.0, 0).empty());
  EXPECT_EQ(arrival_times(5, 3.0, 1.0, 7), arrival_times(5, 3.0, 1.0, 7));
  EXPECT_NE(arrival_times(5, 3.0, 1.0, 7), arrival_times(5, 3.0, 1.0, 8));
  for (const double time : arrival_times(50, 1.0, 1e-6, fresh_seed())) {
    EXPECT_TRUE(std::isfinite(time));
  }
}

TEST(RandomPrompts, HaveTheirLengthsAndPrefix) {
  RandomPrompts options;
  options.prompts = 200;
  options.input_len = 20;
  options.output_len = 10;
  options.range_ratio = 0.5;
  options.prefix_len = 7;
  options.vocabulary = 300;
  options.seed = fresh_seed();
  const std::vector<ServePrompt> prompts = random_prompts(options);
  ASSERT_EQ(prompts.size(), 200u);
  std::set<Ids> different;
  std::int64_t shortest = 1000, longest = 0;
  for (const ServePrompt& prompt : prompts) {
    const Ids& ids = ids_of(prompt);
    ASSERT_EQ(static_cast<std::int64_t>(ids.size()), prompt.input_tokens);
    shortest = std::min(shortest, prompt.input_tokens);
    longest = std::max(longest, prompt.input_tokens);
    EXPECT_TRUE(prompt.output_tokens >= 5 && prompt.output_tokens <= 15);
    for (const std::int32_t id : ids) ASSERT_TRUE(id >= 0 && id < 300);
    EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + 7, ids_of(prompts[0]).begin()));
    different.insert(Ids(ids.begin() + 7, ids.end()));
  }
  EXPECT_EQ(different.size(), 200u);
  EXPECT_TRUE(shortest >= 17 && longest <= 37 && longest - shortest > 10);
  EXPECT_EQ(ids_of(random_prompts(options)[3]), ids_of(prompts[3]));
  options.seed += 1;
  EXPECT_NE(ids_of(random_prompts(options)[3]), ids_of(prompts[3]));
}

TEST(RandomPrompts, CanBeWords) {
  RandomPrompts options;
  options.prompts = 3;
  options.input_len = 40;
  options.text = true;
  options.seed = fresh_seed();
  for (const ServePrompt& prompt : random_prompts(options)) {
    const std::string& text = std::get<std::string>(prompt.content);
    EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 39);
    EXPECT_EQ(prompt.input_tokens, 40);
  }
}

TEST(RequestBody, SaysWhatTheApiWants) {
  ServePrompt prompt;
  prompt.content = Ids{1, 2, 3};
  prompt.output_tokens = 9;
  RequestOptions options;
  options.model = "a \"model\"";
  const auto body = json::parse(request_body(prompt, options), "body");
  ASSERT_TRUE(body.ok());
  const json::Object& object = body->as_object();
  EXPECT_EQ(object.at("model").as_string(), "a \"model\"");
  EXPECT_EQ(json::dump(object.at("prompt")), "[1,2,3]");
  EXPECT_EQ(object.at("max_tokens").as_int64(), 9);
  EXPECT_TRUE(object.at("stream").as_bool());
  EXPECT_TRUE(object.at("stream_options").at("include_usage").as_bool());
  EXPECT_TRUE(object.at("ignore_eos").as_bool());

  prompt.content = "hello";
  options.chat = true;
  options.ignore_eos = false;
  options.extra = {{"temperature", nullptr}, {"top_k", 4}, {"max_tokens", 2}};
  const auto chat = json::parse(request_body(prompt, options), "body");
  ASSERT_TRUE(chat.ok());
  const json::Object& fields = chat->as_object();
  EXPECT_EQ(json::dump(fields.at("messages")), R"([{"role":"user","content":"hello"}])");
  for (const char* absent : {"prompt", "ignore_eos", "temperature"}) {
    EXPECT_FALSE(fields.contains(absent)) << absent;
  }
  EXPECT_EQ(fields.at("top_k").as_int64(), 4);
  EXPECT_EQ(fields.at("max_tokens").as_int64(), 2);
}

class PromptFile : public ::testing::Test {
 protected:
  std::string write(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  const std::string path_ =
      ::testing::TempDir() + "prompts-" + std::to_string(fresh_seed()) + ".jsonl";
};

TEST_F(PromptFile, IsReadLineByLine) {
  const auto prompts = read_prompts(write("{\"prompt\": \"one\", \"output_len\": 3}\n\n"
                                          "{\"prompt\": [4, 5], \"other\": 1}\r\n"
                                          "{\"prompt\": \"three\"}"),
                                    10, 77);
  ASSERT_TRUE(prompts.ok()) << prompts.status().message();
  ASSERT_EQ(prompts->size(), 3u);
  EXPECT_EQ(std::get<std::string>((*prompts)[0].content), "one");
  EXPECT_EQ((*prompts)[0].output_tokens, 3);
  EXPECT_EQ((*prompts)[0].input_tokens, -1);
  EXPECT_EQ(ids_of((*prompts)[1]), (Ids{4, 5}));
  EXPECT_EQ((*prompts)[1].output_tokens, 77);
  EXPECT_EQ((*prompts)[1].input_tokens, 2);
  const auto two = read_prompts(path_, 2, 77);
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two->size(), 2u);
}

TEST_F(PromptFile, NamesTheLineThatIsWrong) {
  const std::string good = "{\"prompt\": \"x\"}\n";
  for (const char* line :
       {"[]", "{", "{}", "{\"prompt\": 1}", "{\"prompt\": []}", "{\"prompt\": [-1]}",
        "{\"prompt\": [1.5]}", "{\"prompt\": [\"a\"]}", "{\"prompt\": [4294967296]}",
        "{\"prompt\": \"x\", \"output_len\": 0}"}) {
    const auto prompts = read_prompts(write(good + line), 10, 1);
    ASSERT_FALSE(prompts.ok()) << line;
    EXPECT_NE(prompts.status().message().find("line 2"), std::string::npos)
        << prompts.status().message();
  }
  EXPECT_FALSE(read_prompts(write("\n \n"), 10, 1).ok());
  EXPECT_FALSE(read_prompts(path_ + ".missing", 10, 1).ok());
}

TEST(BaseUrl, IsTakenApart) {
  const auto plain = parse_base_url("http://example:8000");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->authority(), "example:8000");
  EXPECT_EQ(plain->path("/v1/models"), "/v1/models");
  EXPECT_EQ(parse_base_url("http://example")->port, "80");
  EXPECT_EQ(parse_base_url("http://example:1/v1/")->path("/v1/models"), "/v1/models");
  EXPECT_EQ(parse_base_url("http://example/api/v1")->path("/v1/models"), "/api/v1/models");
  EXPECT_EQ(parse_base_url("http://example/api")->path("/v1/models"), "/api/v1/models");
  const auto six = parse_base_url("http://[::1]:8000");
  ASSERT_TRUE(six.ok());
  EXPECT_EQ(six->host, "::1");
  EXPECT_EQ(six->authority(), "[::1]:8000");
  for (const char* wrong :
       {"", "example:8000", "ftp://example", "http://", "http://:8000", "http://a:0", "http://a:x",
        "http://a:70000", "http://a:", "http://[::1", "http://[::1]8000", "http://u:p@a",
        "http://a?b", "http://a b", "http://a\r\nX: y", "https://example"}) {
    EXPECT_FALSE(parse_base_url(wrong).ok()) << wrong;
  }
  EXPECT_TRUE(check_api_key("sk-abc").ok());
  EXPECT_FALSE(check_api_key("sk\r\nX: y").ok());
}

}  // namespace
}  // namespace liquidgemm::bench
