#include "cli/bench_serve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/bench_records.h"

namespace liquidgemm::cli {
namespace {

constexpr double kLateSeconds = 0.02;  // from here on the client did not keep the rate
constexpr std::size_t kMostErrors = 5;

struct Metric {
  const char* name;    // as --percentile-metrics has it
  const char* symbol;  // in the block
  const char* title;
  bench::Distribution bench::ServeMetrics::*values;
};

constexpr Metric kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token", &bench::ServeMetrics::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &bench::ServeMetrics::tpot},
    {"itl", "ITL", "Inter-token Latency", &bench::ServeMetrics::itl},
    {"e2el", "E2EL", "End-to-end Latency", &bench::ServeMetrics::e2el},
};

std::string line(const std::string& label, const std::string& value) {
  return fmt::format("{:<40} {}\n", label, value);
}
std::string line(const std::string& label, double value) {
  return line(label, fmt::format("{:.2f}", value));
}
std::string line(const std::string& label, std::int64_t value) {
  return line(label, std::to_string(value));
}

std::string counted_by(const bench::ServeMetrics& metrics) {
  if (metrics.with_usage == 0) return "streamed outputs";
  if (metrics.with_usage == metrics.done) return "server's usage";
  return fmt::format("usage of {}, outputs of {}", metrics.with_usage,
                     metrics.done - metrics.with_usage);
}

std::string notes(const ServeRow& row) {
  const bench::ServeMetrics& metrics = row.metrics;
  std::string text;
  if (!metrics.errors.empty()) {
    text += "What went wrong:\n";
    for (std::size_t i = 0; i < std::min(kMostErrors, metrics.errors.size()); ++i) {
      text += fmt::format("  {} x {}\n", metrics.errors[i].second, metrics.errors[i].first);
    }
    if (metrics.errors.size() > kMostErrors) {
      text += fmt::format("  and {} other errors\n", metrics.errors.size() - kMostErrors);
    }
  }
  if (row.run.interrupted) {
    text +=
        fmt::format("Interrupted: {} requests that had no end are left out.\n", metrics.unfinished);
  }
  if (metrics.unknown_input > 0) {
    text += fmt::format(
        "The input tokens of {} requests are not counted: their prompts are text, and the server "
        "sent\nno usage.\n",
        metrics.unknown_input);
  }
  if (metrics.cached_tokens > 0) {
    text += fmt::format("{:.1f} % of the input tokens came from the server's prefix cache.\n",
                        100.0 * static_cast<double>(metrics.cached_tokens) /
                            static_cast<double>(std::max<std::int64_t>(1, metrics.input_tokens)));
  }
  if (metrics.latest_seconds > kLateSeconds) {
    text += fmt::format(
        "This client was up to {:.0f} ms late in sending: it shares a busy machine, or the rate is "
        "too high\nfor one thread.\n",
        1e3 * metrics.latest_seconds);
  }
  return text;
}

void add_distribution(const Metric& metric, const bench::Distribution& values,
                      const std::vector<double>& percents, json::Object& row) {
  const std::string end = fmt::format("_{}_ms", metric.name);
  row["mean" + end] = values.mean;
  row["median" + end] = values.median;
  row["std" + end] = values.deviation;
  for (std::size_t i = 0; i < percents.size(); ++i) {
    row[fmt::format("p{:g}{}", percents[i], end)] = values.percentiles[i];
  }
}

const char* state_name(bench::RequestState state) {
  switch (state) {
    case bench::RequestState::kDone: return "done";
    case bench::RequestState::kFailed: return "failed";
    case bench::RequestState::kUnfinished: return "unfinished";
    case bench::RequestState::kUnsent: break;
  }
  return "unsent";
}

json::Object request_json(const bench::RequestRecord& record) {
  json::Object object{{"state", state_name(record.state)}};
  if (record.state == bench::RequestState::kUnsent) return object;
  object["due_s"] = record.due;
  object["sent_s"] = record.sent;
  if (!record.error.empty()) object["error"] = record.error;
  if (record.outputs.empty()) return object;
  const bench::RequestTimes times = bench::request_times(record);
  object["ttft_ms"] = 1e3 * times.first;
  json::Array gaps;
  for (std::size_t i = 1; i < record.outputs.size(); ++i) {
    gaps.push_back(1e3 * (record.outputs[i] - record.outputs[i - 1]));
  }
  object["itl_ms"] = std::move(gaps);
  object["e2el_ms"] = 1e3 * times.whole;
  object["output_tokens"] = times.outputs;
  if (record.usage.prompt_tokens) object["input_tokens"] = *record.usage.prompt_tokens;
  return object;
}

std::string percent_name(double percent) { return fmt::format("P{:g}", percent); }

}  // namespace

std::string rate_text(double rate) { return std::isinf(rate) ? "inf" : fmt::format("{:g}", rate); }
std::string concurrency_text(std::int64_t concurrency) {
  return concurrency == 0 ? "any" : std::to_string(concurrency);
}

std::string ServeReport::block(const ServeRow& row) const {
  const bench::ServeMetrics& of = row.metrics;
  std::string text = fmt::format("{:=^50}\n", " Serving Benchmark Result ");
  text += line("Successful requests:", of.done);
  text += line("Failed requests:", of.failed);
  if (row.concurrency > 0) text += line("Maximum request concurrency:", row.concurrency);
  if (!std::isinf(row.rate)) text += line("Request rate configured (RPS):", row.rate);
  text += line("Benchmark duration (s):", of.seconds);
  text += line("Total input tokens:", of.input_tokens);
  text += line("Total generated tokens:", of.output_tokens);
  text += line("Tokens counted by:", counted_by(of));
  text += line("Request throughput (req/s):", of.requests_per_second());
  text += line("Output token throughput (tok/s):", of.output_per_second());
  text += line("Peak output token throughput (tok/s):", of.peak_output_per_second);
  text += line("Peak concurrent requests:", of.peak_concurrent);
  text += line("Total Token throughput (tok/s):", of.total_per_second());
  for (const Metric& metric : kMetrics) {
    if (std::find(metrics.begin(), metrics.end(), metric.name) == metrics.end()) continue;
    const bench::Distribution& values = of.*metric.values;
    const std::string end = fmt::format(" {} (ms):", metric.symbol);
    text += fmt::format("{:-^50}\n", metric.title);
    if (values.count == 0) {
      text += "none\n";
      continue;
    }
    text += line("Mean" + end, values.mean);
    text += line("Median" + end, values.median);
    for (std::size_t i = 0; i < percents.size(); ++i) {
      text += line(percent_name(percents[i]) + end, values.percentiles[i]);
    }
  }
  text += fmt::format("{:=^50}\n", "");
  return text + notes(row);
}

Table ServeReport::table() const {
  std::vector<std::string> header = {"rate", "at once", "done", "failed", "req/s", "tok/s out"};
  for (const char* metric : {"TTFT", "TPOT"}) {
    header.push_back(fmt::format("{} median ms", metric));
    for (const double percent : percents) {
      header.push_back(fmt::format("{} {} ms", metric, percent_name(percent)));
    }
  }
  Table table(header);
  for (const ServeRow& row : rows) {
    const bench::ServeMetrics& of = row.metrics;
    std::vector<std::string> cells = {rate_text(row.rate),
                                      concurrency_text(row.concurrency),
                                      std::to_string(of.done),
                                      std::to_string(of.failed),
                                      number_text(of.requests_per_second()),
                                      number_text(of.output_per_second())};
    for (const bench::Distribution* values : {&of.ttft, &of.tpot}) {
      cells.push_back(number_text(values->median));
      for (const double value : values->percentiles) cells.push_back(number_text(value));
    }
    table.add(std::move(cells));
  }
  return table;
}

json::Object ServeReport::to_json() const {
  json::Array cells;
  for (const ServeRow& row : rows) {
    const bench::ServeMetrics& of = row.metrics;
    json::Object cell{{"request_rate", nullptr},
                      {"max_concurrency", nullptr},
                      {"num_prompts", row.run.records.size()},
                      {"seed", row.seed},
                      {"completed", of.done},
                      {"failed", of.failed},
                      {"unfinished", of.unfinished},
                      {"interrupted", row.run.interrupted},
                      {"duration", of.seconds},
                      {"total_input_tokens", of.input_tokens},
                      {"total_output_tokens", of.output_tokens},
                      {"cached_input_tokens", of.cached_tokens},
                      {"counted_by_usage", of.with_usage},
                      {"request_throughput", of.requests_per_second()},
                      {"output_throughput", of.output_per_second()},
                      {"total_token_throughput", of.total_per_second()},
                      {"max_output_tokens_per_s", of.peak_output_per_second},
                      {"max_concurrent_requests", of.peak_concurrent},
                      {"latest_send_ms", 1e3 * of.latest_seconds}};
    // JSON has no infinity: vLLM writes it as a word, too.
    cell["request_rate"] = std::isinf(row.rate) ? json::Value("inf") : json::Value(row.rate);
    if (row.concurrency > 0) cell["max_concurrency"] = row.concurrency;
    for (const Metric& metric : kMetrics) {
      add_distribution(metric, of.*metric.values, percents, cell);
    }
    json::Array errors;
    for (const auto& [message, count] : of.errors) {
      errors.push_back(json::Object{{"message", message}, {"count", count}});
    }
    cell["errors"] = std::move(errors);
    if (details) {
      json::Array requests;
      for (const bench::RequestRecord& record : row.run.records) {
        requests.push_back(request_json(record));
      }
      cell["requests"] = std::move(requests);
    }
    cells.push_back(std::move(cell));
  }
  json::Object object = settings;
  object["rows"] = std::move(cells);
  return object;
}

std::string ServeReport::csv() const {
  std::string text =
      "request_rate,max_concurrency,completed,failed,duration,total_input_tokens,"
      "total_output_tokens,request_throughput,output_throughput,total_token_throughput";
  for (const Metric& metric : kMetrics) {
    text += fmt::format(",mean_{0}_ms,median_{0}_ms", metric.name);
    for (const double percent : percents) text += fmt::format(",p{:g}_{}_ms", percent, metric.name);
  }
  text += "\n";
  for (const ServeRow& row : rows) {
    const bench::ServeMetrics& of = row.metrics;
    text += fmt::format("{},{},{},{},{:.3f},{},{},{:.4f},{:.3f},{:.3f}", rate_text(row.rate),
                        row.concurrency > 0 ? std::to_string(row.concurrency) : "", of.done,
                        of.failed, of.seconds, of.input_tokens, of.output_tokens,
                        of.requests_per_second(), of.output_per_second(), of.total_per_second());
    for (const Metric& metric : kMetrics) {
      const bench::Distribution& values = of.*metric.values;
      text += fmt::format(",{:.3f},{:.3f}", values.mean, values.median);
      for (const double value : values.percentiles) text += fmt::format(",{:.3f}", value);
    }
    text += "\n";
  }
  return text;
}

std::string ServeReport::markdown() const {
  std::string text = rows.size() > 1 ? table().markdown() + "\n" : "";
  for (const ServeRow& row : rows) text += "```\n" + block(row) + "```\n\n";
  return text + provenance(command);
}

}  // namespace liquidgemm::cli
