// The results of `liquid bench gemm --device cpu` as a table, JSON and CSV.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "bench/cpu/gemm_bench.h"
#include "cli/table.h"

namespace liquidgemm::cli {

struct CpuGemmReport {
  bench::cpu::GemmOptions options;
  std::string cpu;
  int threads = 0;
  bench::cpu::CpuCeilings ceilings;  // raised to the rows
  std::vector<bench::cpu::GemmRow> rows;
  std::string command;   // that made it
  double seconds = 0.0;  // that it took

  Table table() const;
  // What was measured on what, and how to read it.
  std::string caption() const;
  json::Object to_json() const;
  std::string csv() const;

 private:
  const bench::cpu::OneDnnTime* rival() const;  // of any row, or null
  std::string rival_text() const;
};

}  // namespace liquidgemm::cli
