#include "server/metrics.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace liquidgemm::server {
namespace {

using std::chrono::milliseconds;

// A page of metrics, read as strictly as the format asks for: HELP and TYPE before the values of
// each metric, every metric in one piece, no line twice, labels escaped, buckets that ascend.
class Page {
 public:
  explicit Page(const std::string& text) {
    EXPECT_FALSE(text.empty());
    if (!text.empty()) {
      EXPECT_EQ(text.back(), '\n');
    }
    std::istringstream lines(text);
    std::string line;
    while (std::getline(lines, line)) read_line(line);
    for (const auto& [name, type] : types_) {
      if (type == "histogram") check_histogram(name);
    }
  }
  double at(const std::string& line) const {
    const auto found = values_.find(line);
    EXPECT_NE(found, values_.end()) << line;
    return found == values_.end() ? -1.0 : found->second;
  }
  bool has(const std::string& metric) const { return types_.count(metric) > 0; }

 private:
  void read_line(const std::string& line) {
    static const std::regex kComment("# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)");
    static const std::regex kValue(
        "([a-zA-Z_:][a-zA-Z0-9_:]*)"
        "(\\{(?:[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\\\n]|\\\\[\\\\n\"])*\"(?:,(?!\\})|(?=\\})))+\\})"
        "?"
        " ([-+]?(?:Inf|[0-9][0-9.e+-]*)|NaN)");
    std::smatch match;
    if (std::regex_match(line, match, kComment)) {
      if (match[1] == "HELP") {
        name_ = match[2];
        EXPECT_EQ(types_.count(name_), 0u) << "twice: " << line;
      } else {
        EXPECT_EQ(match[2], name_) << line;
        EXPECT_TRUE(std::set<std::string>({"counter", "gauge", "histogram"}).count(match[3]));
        types_[name_] = match[3];
        if (match[3] == "counter") {
          EXPECT_TRUE(name_.ends_with("_total")) << line;
        }
      }
      return;
    }
    ASSERT_TRUE(std::regex_match(line, match, kValue)) << line;
    const std::string name = match[1];
    if (types_[name_] == "histogram") {
      EXPECT_TRUE(name == name_ + "_bucket" || name == name_ + "_sum" || name == name_ + "_count");
    } else {
      EXPECT_EQ(name, name_) << line;
    }
    const auto [at, added] = values_.emplace(name + match[2].str(), std::stod(match[3].str()));
    EXPECT_TRUE(added) << "twice: " << line;
    if (name == name_ + "_bucket") {
      const std::string labels = match[2];
      const auto le = labels.find(",le=\"");
      ASSERT_NE(le, std::string::npos) << line;
      const std::string bound = labels.substr(le + 5, labels.size() - le - 7);
      buckets_[name_].emplace_back(bound == "+Inf" ? INFINITY : std::stod(bound), at->second);
    }
    if (name == name_ + "_count") counts_[name_] = at->second;
  }
  void check_histogram(const std::string& name) {
    const auto& buckets = buckets_[name];
    ASSERT_GT(buckets.size(), 1u) << name;
    for (std::size_t i = 1; i < buckets.size(); ++i) {
      EXPECT_LT(buckets[i - 1].first, buckets[i].first) << name;
      EXPECT_LE(buckets[i - 1].second, buckets[i].second) << name;
    }
    EXPECT_TRUE(std::isinf(buckets.back().first)) << name;
    EXPECT_EQ(buckets.back().second, counts_[name]) << name;
  }

  std::string name_;  // of the metric at hand
  std::map<std::string, std::string> types_;
  std::map<std::string, double> values_;
  std::map<std::string, std::vector<std::pair<double, double>>> buckets_;
  std::map<std::string, double> counts_;
};

RequestRecord record_of(int queued_ms, int first_ms, int end_ms, std::int64_t prompt,
                        std::int64_t answer) {
  RequestRecord record;
  record.arrival = TimePoint{} + milliseconds(1000);
  record.first_scheduled = record.arrival + milliseconds(queued_ms);
  record.first_token = record.arrival + milliseconds(first_ms);
  record.finished = record.arrival + milliseconds(end_ms);
  record.prompt_tokens = prompt;
  record.answer_tokens = answer;
  return record;
}

TEST(ServerMetrics, TellsWhatItWasFed) {
  ServerMetrics metrics({.model_name = "m", .vllm_names = true});
  metrics.ended(record_of(2, 30, 500, 100, 7), FinishReason::kStop);
  metrics.ended(record_of(2000, 3000, 9000, 50, 3), FinishReason::kLength);
  metrics.ended(record_of(1, 5, 6, 9, 0), FinishReason::kError);
  metrics.ended(record_of(1, 5, 100, 13, 4), FinishReason::kTimeout);
  RequestRecord waiting;  // cancelled before it ran
  waiting.prompt_tokens = 1000;
  waiting.finished = waiting.arrival;
  metrics.ended(waiting, std::nullopt);
  metrics.ended(record_of(1, 5, 6, 11, 2), std::nullopt);
  for (const int gap : {1, 20, 20, 100'000}) metrics.next_token(milliseconds(gap));

  const EngineMetrics engine{.running = 3,
                             .waiting = 4,
                             .pages = 80,
                             .pages_used = 20,
                             .pages_cached = 10,
                             .pages_free = 50,
                             .prefix_query_tokens = 1000,
                             .prefix_hit_tokens = 640,
                             .preemptions = 5,
                             .steps = 12345678901};
  const Page page(metrics.text(engine));
  for (const std::string p : {"liquidgemm:", "vllm:"}) {
    const std::string label = "{model_name=\"m\"}";
    const auto value = [&](const std::string& name) { return page.at(p + name + label); };
    EXPECT_EQ(value("num_requests_running"), 3);
    EXPECT_EQ(value("num_requests_waiting"), 4);
    EXPECT_EQ(value("kv_cache_usage_perc"), 0.25);
    EXPECT_EQ(value("prefix_cache_queries_total"), 1000);
    EXPECT_EQ(value("prefix_cache_hits_total"), 640);
    EXPECT_EQ(value("num_preemptions_total"), 5);
    EXPECT_EQ(value("prompt_tokens_total"), 183);
    EXPECT_EQ(value("generation_tokens_total"), 16);
    EXPECT_EQ(value("time_to_first_token_seconds_count"), 5);
    EXPECT_NEAR(value("time_to_first_token_seconds_sum"), 3.045, 1e-9);
    EXPECT_EQ(value("request_queue_time_seconds_count"), 5);
    EXPECT_EQ(value("e2e_request_latency_seconds_count"), 4);
    EXPECT_NEAR(value("e2e_request_latency_seconds_sum"), 9.606, 1e-9);
    EXPECT_EQ(value("request_prompt_tokens_sum"), 172);
    EXPECT_EQ(value("request_generation_tokens_sum"), 14);
    const auto bucket = [&](const std::string& name, const std::string& le) {
      return page.at(p + name + "_bucket{model_name=\"m\",le=\"" + le + "\"}");
    };
    EXPECT_EQ(bucket("inter_token_latency_seconds", "0.001"), 1);
    EXPECT_EQ(bucket("inter_token_latency_seconds", "0.015"), 1);
    EXPECT_EQ(bucket("inter_token_latency_seconds", "0.02"), 3);
    EXPECT_EQ(bucket("inter_token_latency_seconds", "30"), 3);
    EXPECT_EQ(bucket("inter_token_latency_seconds", "+Inf"), 4);
    const auto ended = [&](const std::string& reason) {
      return page.at(p + "request_success_total{model_name=\"m\",finished_reason=\"" + reason +
                     "\"}");
    };
    EXPECT_EQ(ended("stop"), 1);
    EXPECT_EQ(ended("length"), 1);
    EXPECT_EQ(ended("error"), 1);
    EXPECT_EQ(ended("timeout"), 1);
    EXPECT_EQ(ended("abort"), 2);
    EXPECT_EQ(page.at(p + "cache_config_info{model_name=\"m\",block_size=\"64\","
                          "num_gpu_blocks=\"80\"}"),
              1);
  }
  EXPECT_EQ(page.at("liquidgemm:engine_steps_total{model_name=\"m\"}"), 12345678901.0);
  EXPECT_EQ(page.at("liquidgemm:kv_pages{model_name=\"m\",state=\"cached\"}"), 10);
  EXPECT_EQ(page.at("vllm:time_per_output_token_seconds_count{model_name=\"m\"}"), 4);
  EXPECT_EQ(page.at("vllm:gpu_cache_usage_perc{model_name=\"m\"}"), 0.25);
  EXPECT_EQ(page.at("vllm:gpu_prefix_cache_hits_total{model_name=\"m\"}"), 640);
}

TEST(ServerMetrics, OtherNamesOnlyWhenAskedForAndEveryModelNameIsEscaped) {
  const std::string name = "a\\b\"c\nd}, e";
  ServerMetrics metrics({.model_name = name});
  const Page page(metrics.text({}));
  EXPECT_FALSE(page.has("vllm:num_requests_running"));
  EXPECT_EQ(page.at("liquidgemm:num_requests_running{model_name=\"a\\\\b\\\"c\\nd}, e\"}"), 0);
  EXPECT_EQ(page.at("liquidgemm:kv_cache_usage_perc{model_name=\"a\\\\b\\\"c\\nd}, e\"}"), 0);
}

TEST(ServerMetrics, ManyThreadsLoseNothing) {
  ServerMetrics metrics({.model_name = "m"});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 500; ++j) {
        metrics.next_token(milliseconds(j % 50));
        metrics.ended(record_of(1, 2, 3, 4, 5), FinishReason::kStop);
        if (j % 100 == 0) {
          EXPECT_FALSE(metrics.text({}).empty());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Page page(metrics.text({}));
  EXPECT_EQ(page.at("liquidgemm:inter_token_latency_seconds_count{model_name=\"m\"}"), 2000);
  EXPECT_EQ(page.at("liquidgemm:generation_tokens_total{model_name=\"m\"}"), 10000);
}

}  // namespace
}  // namespace liquidgemm::server
