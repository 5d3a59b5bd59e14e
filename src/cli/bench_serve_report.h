// What `liquid bench serve` prints and keeps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/serve_metrics.h"
#include "cli/table.h"

namespace liquidgemm::cli {

// One load: a request rate and a number of requests at once.
struct ServeRow {
  double rate = 0.0;             // may be infinite
  std::int64_t concurrency = 0;  // 0: no limit
  std::uint64_t seed = 0;
  bench::LoadRun run;
  bench::ServeMetrics metrics;
};

struct ServeReport {
  // What all rows share, as the JSON's first fields: server, model, prompts, machine, command.
  json::Object settings;
  std::string command;
  std::vector<std::string> metrics = {"ttft", "tpot", "itl"};
  std::vector<double> percents = {99.0};
  double burstiness = 1.0;
  bool details = false;  // every request in the JSON
  std::vector<ServeRow> rows;

  // vLLM's block of one row, and below it what there is to say about it.
  std::string block(const ServeRow& row) const;
  Table table() const;  // a line a row
  json::Object to_json() const;
  std::string csv() const;
  std::string markdown() const;
};

// "2" or "inf", "16" or "any".
std::string rate_text(double rate);
std::string concurrency_text(std::int64_t concurrency);

}  // namespace liquidgemm::cli
