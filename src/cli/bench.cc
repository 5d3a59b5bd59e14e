// `liquid bench`: how fast kernels, models and servers are, and how fast they could be.

#include "cli/bench.h"

namespace liquidgemm::cli {

void add_bench(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb = app.add_subcommand("bench", "Measure kernels, models and servers");
  verb->require_subcommand(1);
  verb->footer(
      "Examples:\n"
      "  liquid bench device\n"
      "  liquid bench gemm --device cuda\n"
      "  liquid bench gemm --device cpu --shape 4096x4096 --m 1,64\n"
      "  liquid bench gemm --device cuda --full --record results.json\n"
      "  liquid bench latency --preset 1b\n"
      "  liquid bench throughput MODEL\n"
      "  liquid bench serve --base-url http://localhost:8000 --max-concurrency 16\n"
      "  liquid bench plot results.json -o results.svg");
  add_bench_gemm(*verb, action);
  add_bench_latency(*verb, action);
  add_bench_throughput(*verb, action);
  add_bench_serve(*verb, action);
  add_bench_device(*verb, action);
  add_bench_plot(*verb, action);
}

}  // namespace liquidgemm::cli
