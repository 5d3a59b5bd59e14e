// `liquid bench throughput`: many requests through the engine.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/progress.h"
#include "base/status_macros.h"
#include "bench/latency.h"
#include "bench/paper_figures.h"
#include "bench/throughput.h"
#include "cli/bench.h"
#include "cli/bench_model.h"
#include "cli/bench_paper.h"
#include "cli/bench_records.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "engine/scheduler.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::cli {
namespace {

constexpr double kBudgetSeconds = 20.0;      // of all cells, where the user names no requests
constexpr double kFullBudgetSeconds = 30.0;  // of each cell with --full

struct Options {
  BenchModelOptions model;
  std::vector<std::int64_t> input_lens;
  std::vector<std::int64_t> sequences;  // at once
  std::int64_t batched_tokens = 0;      // 0: the usual number, or more where more run at once
  std::int64_t prefix_len = 0;
  bool prefix_caching = true;
  std::int64_t pages = 0;    // 0: as many as all that run at once may need
  std::int64_t prompts = 0;  // 0: as many as fit
  std::int64_t output_len = 64;
  double range_ratio = 0.0;
  bool full = false;
};

// With a GPU: many at once, and enough of them that filling up and running empty is little.
constexpr std::int64_t kGpuSequences = 256;
constexpr std::int64_t kGpuRounds = 4;  // requests for each that runs at once

struct Report {
  MeasuredModel model;
  Options options;
  std::int64_t pages = 0;
  // Of the paper, where the model and a row's lengths and requests at once are its own.
  std::optional<bench::PaperComparison> paper;
  std::vector<bench::ThroughputRow> rows;
  double seconds = 0.0;

  Table table() const {
    Table table({"input", "output", "at once", "requests", "seconds", "requests/s", "tokens/s",
                 "generated tokens/s", "tokens a step", "prefix hits", "preemptions"});
    for (const bench::ThroughputRow& row : rows) {
      const std::int64_t tokens = row.prompt_tokens + row.output_tokens;
      table.add({std::to_string(row.cell.input_len), std::to_string(row.cell.output_len),
                 std::to_string(row.cell.max_sequences), std::to_string(row.cell.prompts),
                 fmt::format("{:.2f}", row.seconds), number_text(row.requests_per_second()),
                 number_text(row.total_tokens_per_second()),
                 number_text(row.output_tokens_per_second()),
                 number_text(static_cast<double>(tokens) / static_cast<double>(row.steps), 3),
                 fmt::format("{:.1f} %", 100.0 * row.prefix_hit_rate()),
                 std::to_string(row.preemptions)});
    }
    return table;
  }

  std::string caption() const {
    std::string text = model.caption();
    if (options.range_ratio > 0.0) {
      text += fmt::format("Lengths are uniform within {:.0f} % of those above, seed {}.\n",
                          100.0 * options.range_ratio, options.model.seed);
    }
    if (options.prefix_len > 0) {
      text += fmt::format("Every prompt has {} common tokens before those.\n", options.prefix_len);
    }
    if (!options.prefix_caching) text += "Prefixes are not cached.\n";
    text += fmt::format(
        "All requests are there at the start; at most {} tokens a step. Tokens/s counts prompts\n"
        "and answers.\n",
        options.batched_tokens);
    if (paper) text += paper_text(*paper);
    return text;
  }

  json::Object to_json() const {
    json::Array cells;
    for (const bench::ThroughputRow& row : rows) {
      cells.push_back(json::Object{{"input_len", row.cell.input_len},
                                   {"output_len", row.cell.output_len},
                                   {"max_num_seqs", row.cell.max_sequences},
                                   {"num_prompts", row.cell.prompts},
                                   {"prompt_tokens", row.prompt_tokens},
                                   {"output_tokens", row.output_tokens},
                                   {"steps", row.steps},
                                   {"preemptions", row.preemptions},
                                   {"prefix_query_tokens", row.prefix_query_tokens},
                                   {"prefix_hit_tokens", row.prefix_hit_tokens},
                                   {"prefix_hit_rate", row.prefix_hit_rate()},
                                   {"seconds", row.seconds},
                                   {"requests_per_second", row.requests_per_second()},
                                   {"total_tokens_per_second", row.total_tokens_per_second()},
                                   {"output_tokens_per_second", row.output_tokens_per_second()}});
    }
    json::Object object = model.to_json();
    object["benchmark"] = "throughput";
    object["seconds"] = seconds;
    object["random_range_ratio"] = options.range_ratio;
    object["random_prefix_len"] = options.prefix_len;
    object["prefix_caching"] = options.prefix_caching;
    object["kv_pages"] = pages;
    object["seed"] = options.model.seed;
    object["max_num_batched_tokens"] = options.batched_tokens;
    if (paper) object["paper"] = paper_json(*paper);
    object["rows"] = std::move(cells);
    return object;
  }

  std::string csv() const {
    std::string text =
        "input_len,output_len,max_num_seqs,num_prompts,prompt_tokens,output_tokens,seconds,"
        "requests_per_second,total_tokens_per_second,output_tokens_per_second,prefix_hit_rate,"
        "preemptions\n";
    for (const bench::ThroughputRow& row : rows) {
      text += fmt::format("{},{},{},{},{},{},{:.3f},{:.3f},{:.2f},{:.2f},{:.4f},{}\n",
                          row.cell.input_len, row.cell.output_len, row.cell.max_sequences,
                          row.cell.prompts, row.prompt_tokens, row.output_tokens, row.seconds,
                          row.requests_per_second(), row.total_tokens_per_second(),
                          row.output_tokens_per_second(), row.prefix_hit_rate(), row.preemptions);
    }
    return text;
  }
};

std::vector<bench::ThroughputCell> cells_of(const Options& options, bool gpu) {
  std::vector<std::int64_t> input_lens = options.input_lens;
  std::vector<std::int64_t> sequences = options.sequences;
  if (input_lens.empty()) {
    input_lens =
        options.full ? std::vector<std::int64_t>{32, 128, 512} : std::vector<std::int64_t>{128};
  }
  if (sequences.empty()) {
    sequences = options.full ? std::vector<std::int64_t>{1, 4, 16, 64}
                : gpu        ? std::vector<std::int64_t>{kGpuSequences}
                             : std::vector<std::int64_t>{BackendLimits{}.max_sequences};
  }
  std::vector<bench::ThroughputCell> cells;
  for (const std::int64_t input_len : input_lens) {
    for (const std::int64_t at_once : sequences) {
      const std::int64_t prompts =
          options.prompts == 0 && gpu ? kGpuRounds * at_once : options.prompts;
      cells.push_back({.prompts = prompts,
                       .input_len = input_len,
                       .output_len = options.output_len,
                       .range_ratio = options.range_ratio,
                       .seed = options.model.seed,
                       .max_sequences = at_once,
                       .prefix_len = options.prefix_len,
                       .prefix_caching = options.prefix_caching});
    }
  }
  return cells;
}

// Limits that every cell fits into, where the options leave them open.
Status set_limits(const std::vector<bench::ThroughputCell>& cells, Options& options,
                  BenchModel& model) {
  BackendLimits& limits = model.load.limits;
  limits.max_rows = model.gpu ? kGpuBatchedTokens : BackendLimits{}.max_rows;
  limits.max_position = 1;
  limits.max_sequences = 1;
  limits.pages = 1;
  for (const bench::ThroughputCell& cell : cells) {
    const bench::RequestLengths longest = bench::longest_request(cell);
    const std::int64_t tokens = longest.input + std::max(longest.output, bench::kTrialTokens);
    LIQUIDGEMM_RETURN_IF_ERROR(
        check_length(model,
                     fmt::format("--input-len {}, --output-len {}",
                                 cell.prefix_len + cell.input_len, cell.output_len),
                     tokens));
    limits.max_position = std::max(limits.max_position, tokens);
    limits.max_sequences = std::max(limits.max_sequences, cell.max_sequences);
    limits.pages = std::max(limits.pages, cell.max_sequences * pages_for(tokens));
  }
  limits.max_logits_rows = limits.max_sequences;
  if (options.batched_tokens == 0) {
    options.batched_tokens = std::max(limits.max_rows, limits.max_sequences);
  }
  if (options.batched_tokens < limits.max_sequences) {
    return invalid_argument(fmt::format(
        "--max-num-batched-tokens {}: expected at least --max-num-seqs {}, a token for each",
        options.batched_tokens, limits.max_sequences));
  }
  limits.max_rows = options.batched_tokens;
  const std::int64_t needed = pages_for(limits.max_position);
  // On a GPU as many as fit: the backend knows.
  if (options.pages == 0) options.pages = model.gpu ? 0 : limits.pages;
  if (options.pages > 0 && options.pages < needed) {
    return invalid_argument(fmt::format("--num-kv-pages {}: one request may need {}, of {} tokens",
                                        options.pages, needed, kPageTokens));
  }
  limits.pages = options.pages;
  return ok_status();
}

Result<bench::ThroughputRow> measure_cell(bench::ThroughputCell cell, double budget_seconds,
                                          bool gpu, Backend& backend) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::int64_t fitting,
                              bench::prompts_for(budget_seconds, backend, cell, interrupt_flag()));
  if (cell.prompts == 0) cell.prompts = fitting;
  if (gpu) {
    LIQUIDGEMM_RETURN_IF_ERROR(bench::run_every_batch(backend, cell, interrupt_flag()));
  }
  Progress progress(fmt::format("Input {}, {} at once", cell.input_len, cell.max_sequences),
                    cell.prompts, "requests");
  auto row = bench::measure_throughput(backend, cell, interrupt_flag(),
                                       [&](std::int64_t done) { progress.advance(done); });
  if (row.ok()) progress.finish();
  return row;
}

bool is_the_papers(const bench::ThroughputCell& cell) {
  return cell.prefix_len == 0 && cell.range_ratio == 0.0 && cell.input_len == bench::kPaperInput &&
         cell.output_len == bench::kPaperOutput;
}

Status measure(Options options) {
  interrupt_flag();
  const auto begin = std::chrono::steady_clock::now();
  LIQUIDGEMM_ASSIGN_OR_RETURN(BenchModel bench, open_bench_model(options.model));
  const std::vector<bench::ThroughputCell> cells = cells_of(options, bench.gpu);
  LIQUIDGEMM_RETURN_IF_ERROR(set_limits(cells, options, bench));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const LoadedModel model, load_bench_model(bench));
  const double budget =
      options.full ? kFullBudgetSeconds : kBudgetSeconds / static_cast<double>(cells.size());

  Report report;
  LIQUIDGEMM_ASSIGN_OR_RETURN(report.model, describe_model(bench, model));
  report.options = options;
  report.pages = model.backend->limits().pages;
  // An interrupted cell has no row; those before it are printed and kept.
  Status failure;
  for (const bench::ThroughputCell& cell : cells) {
    auto row = measure_cell(cell, budget, bench.gpu, *model.backend);
    failure = row.status();
    if (!failure.ok()) break;
    report.rows.push_back(*row);
    if (bench.gpu && is_the_papers(cell) && !report.paper && model.precision != Precision::kFp16) {
      report.paper = bench::compare_with_paper(model.backend->graph(), options.model.preset,
                                               cell.max_sequences);
    }
  }
  if (report.rows.empty()) return failure;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.model.json) {
    std::printf("%s", json::dump_pretty(report.to_json()).c_str());
  } else {
    std::printf("%s\n%s", report.table().text().c_str(), report.caption().c_str());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(write_records(options.model.record, [&](const std::string& extension) {
    if (extension == ".json") return json::dump_pretty(report.to_json());
    if (extension == ".csv") return report.csv();
    return report.table().markdown() + "\n" + report.caption() + provenance(report.model.command);
  }));
  return failure;
}

}  // namespace

void add_bench_throughput(CLI::App& bench, Action& action) {
  CLI::App* verb =
      bench.add_subcommand("throughput", "Many requests through the engine: tokens and requests/s");
  const auto options = std::make_shared<Options>();
  const auto length = [] {
    return CLI::Range(std::int64_t{1}, std::int64_t{1} << 24).description("");
  };
  add_bench_model_options(*verb, options->model);
  verb->add_option("--num-prompts", options->prompts,
                   "Requests (default: as many as take about 20 s; 30 s a row with --full;\n"
                   "on a GPU four for each that runs at once)")
      ->check(CLI::Range(1, 1'000'000).description(""));
  verb->add_option("--input-len", options->input_lens,
                   "Tokens of a prompt, comma-separated (default: 128)")
      ->delimiter(',')
      ->check(length());
  verb->add_option("--output-len", options->output_len, "Tokens of an answer")
      ->check(length())
      ->capture_default_str();
  verb->add_option("--random-range-ratio,--random-range", options->range_ratio,
                   "0 to 0.99: lengths are uniform within this share of the above")
      ->check(CLI::Range(0.0, 0.99).description(""))
      ->capture_default_str();
  verb->add_option("--max-num-seqs", options->sequences,
                   "Requests that run at once, 1 to 1024, comma-separated (default: 16;\n"
                   "256 on a GPU)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024).description(""));
  verb->add_option("--max-num-batched-tokens", options->batched_tokens,
                   "Tokens of one step, at least --max-num-seqs (default: 256, or that;\n"
                   "8192 on a GPU)")
      ->check(CLI::Range(16, 65536).description(""));
  verb->add_option("--random-prefix-len", options->prefix_len,
                   "Tokens before each prompt that are the same in all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24).description(""))
      ->capture_default_str();
  verb->add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options->prefix_caching,
                 "Compute what prompts have in common once (on without the flag)");
  verb->add_option("--num-kv-pages,--num-gpu-blocks-override", options->pages,
                   "Pages of 64 tokens of KV cache (default: all that run at once fit;\n"
                   "on a GPU as many of them as its memory takes)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24).description(""));
  verb->add_flag("--full", options->full,
                 "Prompts of 32, 128 and 512 tokens by 1, 4, 16 and 64 requests at once");
  verb->footer(
      "Examples:\n"
      "  liquid bench throughput --preset smollm2-135m\n"
      "  liquid bench throughput --preset 1b --num-prompts 32 --random-range-ratio 0.5 --seed 1\n"
      "  liquid bench throughput --preset llama3-8b --input-len 1024 --output-len 512\n"
      "  liquid bench throughput --preset llama3-8b --device cuda --precision fp16\n"
      "  liquid bench throughput ~/models/qwen-w4a8 --max-num-seqs 1,8,32 --record rows.json\n"
      "  liquid bench plot rows.json -o rows.svg --kind speed");
  verb->callback([options, verb, &action] {
    check_bench_model_options(*verb, options->model);
    action = [options] { return measure(*options); };
  });
}

}  // namespace liquidgemm::cli
