#include "server/metrics.h"

#include <algorithm>
#include <utility>

#include "ops/cpu/ops.h"

namespace liquidgemm::server {
namespace {

constexpr std::array kReasons{"stop", "length", "error", "abort", "timeout"};

std::size_t reason_index(std::optional<FinishReason> finish) {
  if (!finish) return 3;
  switch (*finish) {
    case FinishReason::kStop: return 0;
    case FinishReason::kLength: return 1;
    case FinishReason::kTimeout: return 4;
    case FinishReason::kNone:
    case FinishReason::kError: break;
  }
  return 2;
}

// From what a GPU does for one token to what nobody waits for.
constexpr double kTokenSeconds[] = {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
                                    0.04,  0.05,   0.075, 0.1,    0.15, 0.2,   0.3,  0.5,
                                    0.75,  1.0,    2.5,   5.0,    10.0, 30.0};
constexpr double kRequestSeconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,  0.075, 0.1,
                                      0.15,  0.25,   0.5,   0.75, 1.0,   1.5,   2.5,   5.0,
                                      7.5,   10.0,   20.0,  40.0, 80.0,  160.0, 600.0, 1800.0};
constexpr double kTokens[] = {1,    2,    5,     10,     20,     50,     100,     200,    500,
                              1000, 2000, 5'000, 10'000, 20'000, 50'000, 100'000, 200'000};

double seconds(std::chrono::nanoseconds time) {
  return std::max(std::chrono::duration<double>(time).count(), 0.0);
}

}  // namespace

ServerMetrics::ServerMetrics(ServerMetricsOptions options)
    : options_(std::move(options)),
      first_token_(kRequestSeconds),
      inter_token_(kTokenSeconds),
      end_to_end_(kRequestSeconds),
      queue_(kRequestSeconds),
      prompt_tokens_(kTokens),
      answer_tokens_(kTokens) {}

void ServerMetrics::next_token(std::chrono::nanoseconds since_last) {
  const std::lock_guard lock(mutex_);
  inter_token_.observe(seconds(since_last));
}

void ServerMetrics::ended(const RequestRecord& record, std::optional<FinishReason> finish) {
  const std::lock_guard lock(mutex_);
  ++ends_[reason_index(finish)];
  if (record.first_scheduled) {
    queue_.observe(seconds(*record.first_scheduled - record.arrival));
    all_prompt_tokens_ += static_cast<double>(record.prompt_tokens);
  }
  if (record.first_token) first_token_.observe(seconds(*record.first_token - record.arrival));
  all_answer_tokens_ += static_cast<double>(record.answer_tokens);
  // The time and length of an answer that nobody waited for says nothing.
  if (!finish || !record.finished) return;
  end_to_end_.observe(seconds(*record.finished - record.arrival));
  prompt_tokens_.observe(static_cast<double>(record.prompt_tokens));
  answer_tokens_.observe(static_cast<double>(record.answer_tokens));
}

void ServerMetrics::write_engine(PrometheusText& out, const std::string& prefix,
                                 const EngineMetrics& engine) const {
  const auto write = [&](const char* name, const char* type, const char* help, double value) {
    out.metric(prefix + name, type, help);
    out.value(value);
  };
  const auto count = [](std::int64_t value) { return static_cast<double>(value); };
  write("num_requests_running", "gauge", "Requests that the engine is working on.",
        count(engine.running));
  write("num_requests_waiting", "gauge", "Requests that wait for their turn.",
        count(engine.waiting));
  write("kv_cache_usage_perc", "gauge", "Share of the KV cache that running requests use, 0 to 1.",
        engine.pages > 0 ? count(engine.pages_used) / count(engine.pages) : 0.0);
  write("prefix_cache_queries_total", "counter",
        "Prompt tokens that were looked for in the prefix cache.",
        count(engine.prefix_query_tokens));
  write("prefix_cache_hits_total", "counter", "Prompt tokens that the prefix cache had.",
        count(engine.prefix_hit_tokens));
  write("num_preemptions_total", "counter",
        "Requests that gave up their KV pages for an earlier one.", count(engine.preemptions));
  out.metric(prefix + "cache_config_info", "gauge", "How the KV cache is cut.");
  const std::string block_size = std::to_string(kPageTokens);
  const std::string blocks = std::to_string(engine.pages);
  out.value(1.0, std::array<Label, 2>{{{"block_size", block_size}, {"num_gpu_blocks", blocks}}});
}

void ServerMetrics::write_requests(PrometheusText& out, const std::string& prefix) const {
  const auto write = [&](const char* name, const char* type, const char* help, const auto& value) {
    out.metric(prefix + name, type, help);
    out.value(value);
  };
  write("prompt_tokens_total", "counter", "Tokens of the prompts of requests that have ended.",
        all_prompt_tokens_);
  write("generation_tokens_total", "counter", "Tokens of the answers of requests that have ended.",
        all_answer_tokens_);
  out.metric(prefix + "request_success_total", "counter",
             "Requests that have ended, by reason; abort: cancelled; timeout: they took too long.");
  for (std::size_t i = 0; i < ends_.size(); ++i) {
    out.value(static_cast<double>(ends_[i]), Label{"finished_reason", kReasons[i]});
  }
  write("time_to_first_token_seconds", "histogram", "From arrival to the first token.",
        first_token_);
  write("inter_token_latency_seconds", "histogram", "From one token of an answer to the next.",
        inter_token_);
  write("e2e_request_latency_seconds", "histogram", "From arrival to the end.", end_to_end_);
  write("request_queue_time_seconds", "histogram", "From arrival to the first step.", queue_);
  write("request_prompt_tokens", "histogram", "Tokens of a prompt.", prompt_tokens_);
  write("request_generation_tokens", "histogram", "Tokens of an answer.", answer_tokens_);
}

// Under which dashboards made for earlier versions look.
void ServerMetrics::write_older_names(PrometheusText& out, const EngineMetrics& engine) const {
  out.metric("vllm:time_per_output_token_seconds", "histogram",
             "From one token of an answer to the next.");
  out.value(inter_token_);
  out.metric("vllm:gpu_cache_usage_perc", "gauge", "As vllm:kv_cache_usage_perc.");
  out.value(engine.pages > 0
                ? static_cast<double>(engine.pages_used) / static_cast<double>(engine.pages)
                : 0.0);
  out.metric("vllm:gpu_prefix_cache_queries_total", "counter",
             "As vllm:prefix_cache_queries_total.");
  out.value(static_cast<double>(engine.prefix_query_tokens));
  out.metric("vllm:gpu_prefix_cache_hits_total", "counter", "As vllm:prefix_cache_hits_total.");
  out.value(static_cast<double>(engine.prefix_hit_tokens));
}

std::string ServerMetrics::text(const EngineMetrics& engine) const {
  PrometheusText out({{"model_name", options_.model_name}});
  const std::lock_guard lock(mutex_);
  write_engine(out, "liquidgemm:", engine);
  out.metric("liquidgemm:kv_pages", "gauge", "Pages of the KV cache by state.");
  out.value(static_cast<double>(engine.pages_used), Label{"state", "used"});
  out.value(static_cast<double>(engine.pages_cached), Label{"state", "cached"});
  out.value(static_cast<double>(engine.pages_free), Label{"state", "free"});
  out.metric("liquidgemm:engine_steps_total", "counter", "Steps of the engine.");
  out.value(static_cast<double>(engine.steps));
  write_requests(out, "liquidgemm:");
  if (options_.vllm_names) {
    write_engine(out, "vllm:", engine);
    write_requests(out, "vllm:");
    write_older_names(out, engine);
  }
  return out.text();
}

}  // namespace liquidgemm::server
