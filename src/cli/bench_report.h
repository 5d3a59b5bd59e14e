// The results of `liquid bench gemm` as a table, JSON and CSV.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench/gemm_bench.h"
#include "bench/recorded.h"
#include "cli/table.h"

namespace liquidgemm::cli {

struct GemmReport {
  bench::GemmBenchOptions options;
  CudaDevice device;
  bench::Ceilings ceilings;
  std::string cublas;  // version; empty without rivals
  std::string driver;
  std::vector<bench::GemmRow> rows;
  std::vector<std::string> refused;
  std::optional<bench::Recorded> recorded;  // only when this run agrees with it
  std::string command;                      // that made it
  double seconds = 0.0;                     // that it took

  // One row for each measured one.
  Table table() const;
  // What was measured on what, and how to read it.
  std::string caption() const;
  // What all cells together say: the largest step of each shape, the cells ahead of the rivals.
  std::string conclusions() const;
  json::Object to_json() const;
  std::string csv() const;
};

}  // namespace liquidgemm::cli
