// Load on a server: requests sent when they are due, and when what bytes came back.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/serve_answer.h"
#include "bench/serve_target.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

enum class RequestState {
  kUnsent,      // interrupted before
  kUnfinished,  // interrupted meanwhile
  kDone,
  kFailed
};

// Times are seconds since the start of the load.
struct RequestRecord {
  RequestState state = RequestState::kUnsent;
  double due = 0.0;             // by the request rate
  double sent = 0.0;            // later where --max-concurrency held it back; before connecting
  std::vector<double> outputs;  // arrivals of what the model put out, at least one when done
  double end = 0.0;             // the last event about the answer
  Usage usage;
  std::string error;
};

struct LoadOptions {
  std::string endpoint = "/v1/completions";
  std::vector<double> due;           // seconds after the start, ascending, one a body
  std::int64_t max_concurrency = 0;  // 0: no limit
  double timeout_seconds = 600.0;    // of one request, from being sent to its end
};

struct LoadRun {
  double seconds = 0.0;  // to the end of the last request, or to the interruption
  bool interrupted = false;
  std::vector<RequestRecord> records;  // one a body
};

// One thread does it all, the caller's; connections are kept and used again. `advance` is called
// with the requests that are done. Error: no connection at all. Everything that happens to single
// requests is in their records.
Result<LoadRun> run_load(const ServeTarget& target, const LoadOptions& options,
                         const std::vector<std::string>& bodies, const std::atomic<bool>& interrupt,
                         const std::function<void(std::int64_t)>& advance);

// The body of a GET that was answered with 200.
Result<std::string> http_get(const ServeTarget& target, const std::string& endpoint,
                             const std::atomic<bool>& interrupt, double timeout_seconds);

}  // namespace liquidgemm::bench
