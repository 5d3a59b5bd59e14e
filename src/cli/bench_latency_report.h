// The results of `liquid bench latency` as tables, JSON and CSV.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "bench/cpu/ceiling.h"
#include "bench/latency.h"
#include "cli/bench_model.h"
#include "cli/table.h"

namespace liquidgemm::cli {

struct LatencyReport {
  MeasuredModel model;
  bench::cpu::CpuCeilings ceilings;  // raised to the rows
  std::vector<bench::LatencyRow> rows;
  double seconds = 0.0;  // that it took, loading included

  Table table() const;
  std::string caption() const;                  // how to read it
  std::string breakdowns(bool markdown) const;  // a table for each row that has one
  json::Object to_json() const;
  std::string csv() const;
};

// "input 512, batch 8".
std::string cell_name(const bench::LatencyCell& cell);
// Raises the ceilings to what rows reached.
void raise_to_rows(const std::vector<bench::LatencyRow>& rows, bench::cpu::CpuCeilings& ceilings);

}  // namespace liquidgemm::cli
