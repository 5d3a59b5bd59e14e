// What a load says about a server, by vLLM's definitions (docs/bench.md).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bench/serve_load.h"

namespace liquidgemm::bench {

// Of sorted values, percent 0 to 100, linear between the two nearest as numpy does it; 0 of none.
double percentile(const std::vector<double>& sorted, double percent);

// In milliseconds.
struct Distribution {
  std::size_t count = 0;
  double mean = 0.0;
  double median = 0.0;
  double deviation = 0.0;           // of the population
  std::vector<double> percentiles;  // as asked for
};
Distribution distribution(std::vector<double> seconds, const std::vector<double>& percents);

// Of one request that is done.
struct RequestTimes {
  double first = 0.0;        // seconds from sending to the first output
  double whole = 0.0;        // to the end
  double each = 0.0;         // each output token after the first; 0 of a single token
  std::int64_t outputs = 0;  // tokens: by the server's count, or the outputs that came
};
RequestTimes request_times(const RequestRecord& record);

struct ServeMetrics {
  double seconds = 0.0;
  std::int64_t done = 0;
  std::int64_t failed = 0;
  std::int64_t unfinished = 0;  // and unsent: interrupted
  std::int64_t input_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t cached_tokens = 0;       // of the input, where the server says so
  std::int64_t with_usage = 0;          // requests of which the server counted the output
  std::int64_t unknown_input = 0;       // requests of which nobody counted the input
  double peak_output_per_second = 0.0;  // the best second
  std::int64_t peak_concurrent = 0;
  double latest_seconds = 0.0;  // how late the client sent a request that nothing held back
  Distribution ttft, tpot, itl, e2el;
  std::vector<std::pair<std::string, std::int64_t>> errors;  // message, how often; the most first

  double requests_per_second() const { return per_second(done); }
  double output_per_second() const { return per_second(output_tokens); }
  double total_per_second() const { return per_second(input_tokens + output_tokens); }

 private:
  double per_second(std::int64_t count) const {
    return seconds > 0.0 ? static_cast<double>(count) / seconds : 0.0;
  }
};

// `input_tokens`: of each request as it was made, -1 where that is not known; the server's own
// count goes before it. `limited`: requests may have waited for others.
ServeMetrics summarize(const LoadRun& run, const std::vector<std::int64_t>& input_tokens,
                       bool limited, const std::vector<double>& percents);

}  // namespace liquidgemm::bench
