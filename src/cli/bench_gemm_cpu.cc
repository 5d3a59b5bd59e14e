#include "cli/bench_gemm_cpu.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "base/progress.h"
#include "base/status_macros.h"
#include "bench/cpu/gemm_bench.h"
#include "cli/bench_cpu_report.h"
#include "cli/bench_records.h"
#include "cli/interrupt.h"
#include "cli/machine.h"

namespace liquidgemm::cli {

Status measure_on_cpu(const CpuGemmRequest& request) {
  interrupt_flag();
  const auto begin = std::chrono::steady_clock::now();
  CpuGemmReport report;
  report.options.threads = request.threads;
  report.options.group_size = request.group_size;
  report.options.rounds = request.rounds;
  report.options.rivals = request.rivals;
  report.options.kind = request.precision == "w8a8" ? bench::cpu::WeightKind::kInt8
                                                    : bench::cpu::WeightKind::kLiquid4;
  report.options.isa = best_isa();
  if (!request.isa.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(report.options.isa, parse_isa(request.isa));
    LIQUIDGEMM_RETURN_IF_ERROR(check_isa(report.options.isa));
  }
  report.command = command_line();
  report.cpu = cpu_name();
  bench::cpu::GemmBench bench(report.options);
  report.threads = bench.threads();

  // What went wrong is said after what was right has been printed: a wrong row is never written.
  Status failure;
  Progress progress("Measuring",
                    static_cast<std::int64_t>(request.shapes.size() * request.tokens.size()),
                    "cells");
  for (const bench::Shape& shape : request.shapes) {
    for (const std::int64_t m : request.tokens) {
      if (failure.ok() && interrupt_flag()) failure = cancelled("interrupted");
      if (!failure.ok()) continue;
      auto row = bench.measure(shape, m);
      failure = row.status();
      if (!failure.ok()) continue;
      progress.advance(1, fmt::format("{}, M {}: {:.1f} us", shape.name, m, row->seconds * 1e6));
      report.rows.push_back(*std::move(row));
    }
  }
  if (report.rows.empty()) return failure;
  LIQUIDGEMM_RETURN_IF_ERROR(bench.settle_ceilings(report.rows));
  if (failure.ok()) progress.finish();
  report.ceilings = bench.ceilings();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (request.json) {
    std::printf("%s", json::dump_pretty(report.to_json()).c_str());
  } else {
    std::printf("%s\n%s", report.table().text().c_str(), report.caption().c_str());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(write_records(request.record, [&](const std::string& extension) {
    if (extension == ".json") return json::dump_pretty(report.to_json());
    if (extension == ".csv") return report.csv();
    return report.table().markdown() + "\n" + report.caption() + provenance(report.command);
  }));
  return failure;
}

}  // namespace liquidgemm::cli
