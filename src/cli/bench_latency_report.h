// The results of `liquid bench latency` as tables, JSON and CSV.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/cpu/ceiling.h"
#include "bench/latency.h"
#include "bench/paper_figures.h"
#include "cli/bench_model.h"
#include "cli/table.h"

namespace liquidgemm::cli {

struct LatencyReport {
  MeasuredModel model;
  bench::cpu::CpuCeilings ceilings;    // raised to the rows
  std::optional<bench::Ceilings> gpu;  // instead of them, where the model ran on one
  std::vector<bench::LatencyRow> rows;
  // By row: what the paper has of this model and batch, if anything. Empty: of none.
  std::vector<std::optional<bench::PaperComparison>> paper;
  // The same cells of the same model with FP16 weights, in order; an interruption leaves some out.
  std::optional<MeasuredModel> baseline_model;
  std::vector<bench::LatencyRow> baseline;
  double seconds = 0.0;  // that it took, loading included

  Table table() const;
  std::string caption() const;                  // how to read it
  std::string breakdowns(bool markdown) const;  // a table for each row that has one
  json::Object to_json() const;
  std::string csv() const;

 private:
  const bench::LatencyRow* baseline_of(std::size_t row) const;  // null: there is none
  double read_rate() const;
  double operations_rate() const;  // of the model's weights
  double step_floor(const bench::LatencyRow& row) const;
  double operations_share(const bench::LatencyRow& row) const;
  double read_share(const bench::LatencyRow& row) const;
  std::string ceilings_caption() const;
  std::string breakdown(const bench::LatencyRow& row, const std::string& name, bool markdown) const;
};

// "input 512, batch 8".
std::string cell_name(const bench::LatencyCell& cell);
// Raises the ceilings to what rows reached.
void raise_to_rows(const std::vector<bench::LatencyRow>& rows, bench::cpu::CpuCeilings& ceilings);

}  // namespace liquidgemm::cli
