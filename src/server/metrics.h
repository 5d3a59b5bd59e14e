// What /metrics tells: counters and histograms of all requests, and the engine's state.
#pragma once

#include <array>
#include <mutex>
#include <string>

#include "engine/engine_thread.h"
#include "server/prometheus_text.h"

namespace liquidgemm::server {

struct ServerMetricsOptions {
  std::string model_name;   // a label of every line
  bool vllm_names = false;  // each metric under vLLM's name too
};

// An observer of the engine thread. Every function may be called from any thread.
class ServerMetrics final : public EngineObserver {
 public:
  explicit ServerMetrics(ServerMetricsOptions options);

  void next_token(std::chrono::nanoseconds since_last) override;
  void ended(const RequestRecord& record, std::optional<FinishReason> finish) override;

  // The whole page, with the engine as EngineThread::metrics() shows it now.
  std::string text(const EngineMetrics& engine) const;

 private:
  void write_engine(PrometheusText& out, const std::string& prefix,
                    const EngineMetrics& engine) const;
  void write_requests(PrometheusText& out, const std::string& prefix) const;
  void write_older_names(PrometheusText& out, const EngineMetrics& engine) const;

  const ServerMetricsOptions options_;
  mutable std::mutex mutex_;  // guards all that follows
  Histogram first_token_;
  Histogram inter_token_;
  Histogram end_to_end_;
  Histogram queue_;
  Histogram prompt_tokens_;
  Histogram answer_tokens_;
  std::array<std::uint64_t, 5> ends_{};  // as kReasons in metrics.cc
  double all_prompt_tokens_ = 0.0;
  double all_answer_tokens_ = 0.0;
};

}  // namespace liquidgemm::server
