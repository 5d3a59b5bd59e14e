// `liquid bench latency`: the first token and the next ones, beside the machine's ceilings.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "base/progress.h"
#include "base/status_macros.h"
#include "bench/cpu/run_probes.h"
#include "bench/device_bench.h"
#include "cli/bench.h"
#include "cli/bench_latency_report.h"
#include "cli/bench_records.h"
#include "cli/interrupt.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::cli {
namespace {

constexpr double kBudgetSeconds = 25.0;  // of all cells, where the user names no repetitions
constexpr int kShortIterations = 5;
constexpr int kFullIterations = 3;

struct Options {
  BenchModelOptions model;
  std::vector<std::int64_t> input_lens;
  std::vector<std::int64_t> batches;
  std::int64_t output_len = 64;
  int iterations = 0;    // 0: as many as fit
  std::string protocol;  // "decode": the paper's lengths, once
  std::string baseline;  // "fp16": measured too
  bool breakdown = false;
  bool full = false;
};

std::vector<bench::LatencyCell> cells_of(const Options& options) {
  std::vector<std::int64_t> input_lens = options.input_lens;
  std::vector<std::int64_t> batches = options.batches;
  if (input_lens.empty()) {
    input_lens =
        options.full ? std::vector<std::int64_t>{128, 512, 2048} : std::vector<std::int64_t>{512};
  }
  if (batches.empty()) {
    batches =
        options.full ? std::vector<std::int64_t>{1, 2, 4, 8, 16} : std::vector<std::int64_t>{1};
  }
  std::vector<bench::LatencyCell> cells;
  for (const std::int64_t input_len : input_lens) {
    for (const std::int64_t batch : batches) {
      cells.push_back({input_len, options.output_len, batch});
    }
  }
  return cells;
}

constexpr const char* kDecode = "decode";

// What the protocol says, where the user says nothing else.
void apply_protocol(const CLI::App& verb, Options& options) {
  if (options.protocol != kDecode) return;
  if (options.input_lens.empty()) options.input_lens = {bench::kPaperInput};
  // The first token of an answer belongs to the prompt.
  if (verb.get_option("--output-len")->count() == 0) options.output_len = bench::kPaperOutput + 1;
  if (options.iterations == 0) options.iterations = 1;
}

// Limits that every cell fits into.
Status set_limits(const std::vector<bench::LatencyCell>& cells, BenchModel& model) {
  BackendLimits& limits = model.load.limits;
  limits.max_position = 1;
  limits.pages = 1;
  // Half of the rows are left to prompts at least.
  if (model.gpu) limits.max_rows = kGpuBatchedTokens;
  for (const bench::LatencyCell& cell : cells) {
    limits.max_rows = std::max(limits.max_rows, 2 * cell.batch);
  }
  for (const bench::LatencyCell& cell : cells) {
    const std::int64_t longest = bench::longest_sequence(cell, limits.max_rows);
    LIQUIDGEMM_RETURN_IF_ERROR(
        check_length(model,
                     fmt::format("--input-len {}, --output-len {}, --batch-size {}", cell.input_len,
                                 cell.output_len, cell.batch),
                     longest));
    limits.max_position = std::max(limits.max_position, longest);
    limits.max_sequences = std::max(limits.max_sequences, cell.batch);
    limits.pages = std::max(limits.pages, cell.batch * pages_for(longest));
  }
  limits.max_logits_rows = limits.max_sequences;
  return ok_status();
}

// The paper's figures beside rows of the same model, lengths and batch.
void add_paper(const Options& options, const ModelGraph& graph, LatencyReport& report) {
  bool any = false;
  for (const bench::LatencyRow& row : report.rows) {
    auto& comparison = report.paper.emplace_back();
    const bench::LatencyCell& cell = row.cell;
    if (cell.input_len != bench::kPaperInput || cell.output_len != bench::kPaperOutput + 1)
      continue;
    comparison = bench::compare_with_paper(graph, options.model.preset, cell.batch);
    any = any || comparison;
  }
  if (!any) report.paper.clear();
}

bench::LatencyOptions latency_options(const Options& options, std::size_t cells) {
  bench::LatencyOptions latency;
  latency.seed = options.model.seed;
  latency.breakdown = options.breakdown;
  latency.iterations = options.iterations;
  if (options.iterations == 0) {
    latency.iterations = options.full ? kFullIterations : kShortIterations;
    if (!options.full) latency.budget_seconds = kBudgetSeconds / static_cast<double>(cells);
  }
  return latency;
}

// An interrupted cell has no row; those before it are printed and kept.
Status measure_cells(const std::vector<bench::LatencyCell>& cells, const BenchModel& bench,
                     const LoadedModel& model, bench::LatencyOptions latency, LatencyReport& report,
                     std::vector<bench::LatencyRow>& rows) {
  latency.ceilings = report.gpu;
  latency.half_weights = model.precision == Precision::kFp16;
  const Isa isa = bench.load.isa.value_or(best_isa());
  const auto probe = [&] {
    if (report.gpu) return ok_status();
    return bench::cpu::run_probes(isa, *model.pool, report.ceilings);
  };
  // Without a unit: the time limit may leave repetitions out.
  Progress progress("Measuring", static_cast<std::int64_t>(cells.size()) * latency.iterations);
  for (const bench::LatencyCell& cell : cells) {
    // The clocks of a shared machine change within a run.
    LIQUIDGEMM_RETURN_IF_ERROR(probe());
    int shown = 0;
    const auto advance = [&] {
      progress.advance(1, cell_name(cell));
      ++shown;
    };
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        bench::LatencyRow row,
        bench::measure_latency(*model.backend, cell, latency, interrupt_flag(), advance));
    progress.advance(
        latency.iterations - shown,
        fmt::format("{}: prompt {:.1f}, generation {:.1f} tokens/s", cell_name(cell),
                    row.prompt_tokens_per_second(), row.generation_tokens_per_second()));
    rows.push_back(std::move(row));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(probe());
  progress.finish();
  return ok_status();
}

// Loads the model, measures it and lets go of it.
Status measure_model(const Options& options, const std::vector<bench::LatencyCell>& cells,
                     const BenchModel& bench, LatencyReport& report) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedModel model, load_bench_model(bench));
  LIQUIDGEMM_ASSIGN_OR_RETURN(report.model, describe_model(bench, model));
  const Status measured = measure_cells(cells, bench, model, latency_options(options, cells.size()),
                                        report, report.rows);
  if (!report.gpu) {
    raise_to_rows(report.rows, report.ceilings);
  } else if (model.precision != Precision::kFp16) {
    add_paper(options, model.backend->graph(), report);
  }
  return measured;
}

// The same cells with FP16 weights, on the same GPU.
Status measure_baseline(const Options& options, const std::vector<bench::LatencyCell>& cells,
                        LatencyReport& report) {
  BenchModelOptions half = options.model;
  half.precision = options.baseline;
  LIQUIDGEMM_ASSIGN_OR_RETURN(BenchModel bench, open_bench_model(half));
  LIQUIDGEMM_RETURN_IF_ERROR(set_limits(cells, bench));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedModel model, load_bench_model(bench));
  LIQUIDGEMM_ASSIGN_OR_RETURN(report.baseline_model, describe_model(bench, model));
  return measure_cells(cells, bench, model, latency_options(options, cells.size()), report,
                       report.baseline);
}

Status measure(const Options& options) {
  interrupt_flag();
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<bench::LatencyCell> cells = cells_of(options);
  LIQUIDGEMM_ASSIGN_OR_RETURN(BenchModel bench, open_bench_model(options.model));
  const bool compared = !options.baseline.empty();
  if (compared && !bench.gpu) {
    return invalid_argument("--baseline " + options.baseline + ": it runs on a GPU alone");
  }
  LIQUIDGEMM_RETURN_IF_ERROR(set_limits(cells, bench));
  LatencyReport report;
  if (bench.gpu) {
    // While its memory is free.
    LIQUIDGEMM_ASSIGN_OR_RETURN(const CudaDevice device, open_cuda_device());
    LIQUIDGEMM_ASSIGN_OR_RETURN(report.gpu, bench::measure_ceilings(device));
  }
  Status failure = measure_model(options, cells, bench, report);
  if (report.rows.empty()) return failure;
  if (failure.ok() && compared) {
    failure =
        measure_baseline(options, cells, report).with_context("--baseline " + options.baseline);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.model.json) {
    std::printf("%s", json::dump_pretty(report.to_json()).c_str());
  } else {
    std::printf("%s\n%s%s", report.table().text().c_str(), report.caption().c_str(),
                report.breakdowns(false).c_str());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(write_records(options.model.record, [&](const std::string& extension) {
    if (extension == ".json") return json::dump_pretty(report.to_json());
    if (extension == ".csv") return report.csv();
    return report.table().markdown() + "\n" + report.caption() + report.breakdowns(true) +
           provenance(report.model.command);
  }));
  return failure;
}

}  // namespace

void add_bench_latency(CLI::App& bench, Action& action) {
  CLI::App* verb = bench.add_subcommand(
      "latency", "Time to the first token and to the next ones, beside the ceilings");
  const auto options = std::make_shared<Options>();
  add_bench_model_options(*verb, options->model);
  verb->add_option("--input-len", options->input_lens,
                   "Tokens of a prompt, comma-separated (default: 512)")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24).description(""));
  verb->add_option("--output-len", options->output_len, "Tokens of an answer, 2 or more")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24).description(""))
      ->capture_default_str();
  verb->add_option("--batch-size,--batch", options->batches,
                   "Requests at once, 1 to 1024, comma-separated (default: 1)")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, bench::kMostBatch).description(""));
  verb->add_option("--num-iters", options->iterations,
                   "Repetitions; the median counts (default: up to 5 that fit into\n"
                   "half a minute; 3 with --full)")
      ->check(CLI::Range(1, 1000).description(""));
  verb->add_option("--protocol", options->protocol,
                   "decode: from 1,024 to 1,536 tokens of each request, once\n"
                   "(--input-len 1024 --output-len 513 --num-iters 1)")
      ->check(CLI::IsMember({kDecode}));
  verb->add_option("--baseline", options->baseline,
                   "fp16: the same with FP16 weights (cuBLASLt) afterwards, beside it;\non a GPU")
      ->check(CLI::IsMember({"fp16"}));
  verb->add_flag("--breakdown", options->breakdown,
                 "One repetition more, timed inside: where the time goes");
  verb->add_flag("--full", options->full,
                 "Prompts of 128, 512 and 2048 tokens by batches of 1, 2, 4, 8 and 16");
  verb->footer(
      "Examples:\n"
      "  liquid bench latency --preset 1b --breakdown\n"
      "  liquid bench latency ~/models/qwen-w4a8 --input-len 128,1024 --batch-size 1,8\n"
      "  liquid bench latency --preset smollm2-135m --full --record latency.json\n"
      "  liquid bench latency --preset llama3-8b --protocol decode --baseline fp16\n"
      "  liquid bench plot latency.json -o latency.svg --kind speed");
  verb->callback([options, verb, &action] {
    check_bench_model_options(*verb, options->model);
    if (options->baseline == options->model.precision) {
      throw CLI::ValidationError("--baseline", "it is what --precision names already");
    }
    apply_protocol(*verb, *options);
    action = [options] { return measure(*options); };
  });
}

}  // namespace liquidgemm::cli
