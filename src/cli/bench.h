// The parts of `liquid bench`.
#pragma once

#include "cli/commands.h"

namespace liquidgemm::cli {

void add_bench_gemm(CLI::App& bench, Action& action);
void add_bench_latency(CLI::App& bench, Action& action);
void add_bench_throughput(CLI::App& bench, Action& action);
void add_bench_serve(CLI::App& bench, Action& action);
void add_bench_plot(CLI::App& bench, Action& action);
void add_bench_device(CLI::App& bench, Action& action);

}  // namespace liquidgemm::cli
