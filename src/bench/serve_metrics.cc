#include "bench/serve_metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace liquidgemm::bench {
namespace {

// Tokens of each second since the first request was sent; an output of several tokens counts as
// many as the request's outputs have on average.
double peak_output(const std::vector<const RequestRecord*>& done, double begin) {
  std::map<std::int64_t, double> seconds;
  for (const RequestRecord* record : done) {
    const double tokens = static_cast<double>(request_times(*record).outputs) /
                          static_cast<double>(record->outputs.size());
    for (const double at : record->outputs) {
      seconds[static_cast<std::int64_t>(std::floor(at - begin))] += tokens;
    }
  }
  double peak = 0.0;
  for (const auto& [second, tokens] : seconds) peak = std::max(peak, tokens);
  return peak;
}

std::int64_t peak_concurrent(const std::vector<const RequestRecord*>& done) {
  std::vector<std::pair<double, int>> events;
  for (const RequestRecord* record : done) {
    events.emplace_back(record->sent, 1);
    events.emplace_back(record->end, -1);
  }
  std::sort(events.begin(), events.end());  // at the same time, ends first
  std::int64_t now = 0;
  std::int64_t peak = 0;
  for (const auto& [time, change] : events) peak = std::max(peak, now += change);
  return peak;
}

}  // namespace

double percentile(const std::vector<double>& sorted, double percent) {
  if (sorted.empty()) return 0.0;
  const double place = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (place - std::floor(place)) * (sorted[below + 1] - sorted[below]);
}

Distribution distribution(std::vector<double> seconds, const std::vector<double>& percents) {
  Distribution result;
  result.count = seconds.size();
  std::sort(seconds.begin(), seconds.end());
  const double count = std::max<double>(1.0, static_cast<double>(seconds.size()));
  const double mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / count;
  double squares = 0.0;
  for (const double value : seconds) squares += (value - mean) * (value - mean);
  result.mean = 1e3 * mean;
  result.deviation = 1e3 * std::sqrt(squares / count);
  result.median = 1e3 * percentile(seconds, 50.0);
  for (const double percent : percents) {
    result.percentiles.push_back(1e3 * percentile(seconds, percent));
  }
  return result;
}

RequestTimes request_times(const RequestRecord& record) {
  RequestTimes times;
  times.outputs =
      record.usage.completion_tokens.value_or(static_cast<std::int64_t>(record.outputs.size()));
  if (record.outputs.empty()) return times;
  times.first = record.outputs.front() - record.sent;
  times.whole = record.end - record.sent;
  if (times.outputs > 1) {
    times.each = (times.whole - times.first) / static_cast<double>(times.outputs - 1);
  }
  return times;
}

ServeMetrics summarize(const LoadRun& run, const std::vector<std::int64_t>& input_tokens,
                       bool limited, const std::vector<double>& percents) {
  ServeMetrics metrics;
  metrics.seconds = run.seconds;
  std::vector<const RequestRecord*> done;
  std::vector<double> ttft, tpot, itl, e2el;
  std::map<std::string, std::int64_t> errors;
  for (std::size_t i = 0; i < run.records.size(); ++i) {
    const RequestRecord& record = run.records[i];
    if (record.state == RequestState::kFailed) {
      ++metrics.failed;
      ++errors[record.error];
    } else if (record.state != RequestState::kDone) {
      ++metrics.unfinished;
    }
    if (!limited && record.state != RequestState::kUnsent) {
      metrics.latest_seconds = std::max(metrics.latest_seconds, record.sent - record.due);
    }
    if (record.state != RequestState::kDone) continue;
    done.push_back(&record);
    const RequestTimes times = request_times(record);
    ttft.push_back(times.first);
    e2el.push_back(times.whole);
    if (times.outputs > 1) tpot.push_back(times.each);
    for (std::size_t k = 1; k < record.outputs.size(); ++k) {
      itl.push_back(record.outputs[k] - record.outputs[k - 1]);
    }
    const std::int64_t input = record.usage.prompt_tokens.value_or(input_tokens[i]);
    metrics.input_tokens += std::max<std::int64_t>(0, input);
    metrics.unknown_input += input < 0 ? 1 : 0;
    metrics.output_tokens += times.outputs;
    metrics.cached_tokens += record.usage.cached_tokens.value_or(0);
    metrics.with_usage += record.usage.completion_tokens ? 1 : 0;
  }
  metrics.done = static_cast<std::int64_t>(done.size());
  if (!done.empty()) {
    double begin = done.front()->sent;
    for (const RequestRecord* record : done) begin = std::min(begin, record->sent);
    metrics.peak_output_per_second = peak_output(done, begin);
    metrics.peak_concurrent = peak_concurrent(done);
  }
  metrics.ttft = distribution(std::move(ttft), percents);
  metrics.tpot = distribution(std::move(tpot), percents);
  metrics.itl = distribution(std::move(itl), percents);
  metrics.e2el = distribution(std::move(e2el), percents);
  metrics.errors.assign(errors.begin(), errors.end());
  std::stable_sort(metrics.errors.begin(), metrics.errors.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return metrics;
}

}  // namespace liquidgemm::bench
