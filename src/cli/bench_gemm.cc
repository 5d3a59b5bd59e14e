// `liquid bench gemm`: the W4A8 product at the shapes of real models; on a GPU beside cuBLASLt's.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>

#include "base/log.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "bench/cpu/shapes.h"
#include "cli/bench.h"
#include "cli/bench_gemm_cpu.h"
#include "cli/bench_records.h"
#include "cli/bench_report.h"
#include "cli/interrupt.h"
#include "gemm/gemm.h"

namespace liquidgemm::cli {
namespace {

struct Options {
  bench::GemmBenchOptions bench;
  CpuGemmRequest cpu;
  std::string device = "cuda";
  std::vector<std::string> shapes;
  std::vector<std::string> tokens;
  std::string output = "f16";
  std::string schedule;
  std::string schedules;
  int pause_ms = 0;
  int settle_ms = 0;
  bool full = false;
  bool no_rivals = false;
  bool no_programmatic = false;
  bool json = false;
  std::vector<std::string> record;
  std::string recorded;
};

// What is measured where the command names no shapes or no tokens.
struct DefaultCells {
  std::span<const bench::Shape> shapes;
  std::span<const std::int64_t> tokens;
};
DefaultCells default_cells(const Options& options) {
  if (options.device == "cpu") {
    if (options.full) return {bench::cpu::all_shapes(), bench::cpu::all_tokens()};
    return {bench::cpu::short_shapes(), bench::cpu::short_tokens()};
  }
  if (options.full) return {bench::goal_shapes(), bench::goal_tokens()};
  if (options.bench.ablate) return {bench::ablation_shapes(), bench::ablation_tokens()};
  return {bench::short_shapes(), bench::short_tokens()};
}

Status choose_cells(const Options& options, std::vector<bench::Shape>& shapes,
                    std::vector<std::int64_t>& tokens) {
  const auto [default_shapes, default_tokens] = default_cells(options);
  if (options.shapes.empty()) shapes.assign(default_shapes.begin(), default_shapes.end());
  for (const std::string& text : options.shapes) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto more, bench::parse_shape(text));
    shapes.insert(shapes.end(), more.begin(), more.end());
  }
  for (const std::string& text : options.tokens) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto more, bench::parse_tokens(text));
    for (const std::int64_t m : more) {
      if (std::find(tokens.begin(), tokens.end(), m) == tokens.end()) tokens.push_back(m);
    }
  }
  if (tokens.empty()) tokens.assign(default_tokens.begin(), default_tokens.end());
  return ok_status();
}

// "A;B;C"; an empty part is the planner's own choice.
std::vector<std::string> split_schedules(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(';', begin);
    std::string part = text.substr(begin, end == std::string::npos ? end : end - begin);
    const std::size_t first = part.find_first_not_of(' ');
    const std::size_t last = part.find_last_not_of(' ');
    parts.push_back(first == std::string::npos ? "" : part.substr(first, last - first + 1));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

Status write_report(const Options& options, const GemmReport& report) {
  return write_records(options.record, [&](const std::string& extension) {
    if (extension == ".json") return json::dump_pretty(report.to_json());
    if (extension == ".csv") return report.csv();
    const std::string conclusions = report.conclusions();
    return report.table().markdown() + "\n" + report.caption() +
           (conclusions.empty() ? "" : "\n" + conclusions) + provenance(report.command);
  });
}

// Keeps the recorded rivals only where this run's cuBLASLt agrees with the recorded one.
void compare_with_recorded(std::optional<bench::Recorded> recorded, GemmReport& report) {
  if (!recorded) return;
  const auto difference = recorded->disagreement(report.rows);
  if (!difference) {
    log_warning("the recorded rivals are not shown: no cuBLASLt time to compare");
  } else if (*difference > bench::Recorded::kAgreement) {
    log_warning(fmt::format(
        "the recorded rivals are not shown: this run's cuBLASLt times differ from the recorded "
        "ones by {:.1f} % (median); up to {:.0f} % is agreement",
        100.0 * *difference, 100.0 * bench::Recorded::kAgreement));
  } else {
    report.recorded = std::move(recorded);
  }
}

Status measure(const Options& options) {
  interrupt_flag();
  std::vector<bench::Shape> shapes;
  std::vector<std::int64_t> tokens;
  LIQUIDGEMM_RETURN_IF_ERROR(choose_cells(options, shapes, tokens));
  std::optional<bench::Recorded> recorded;
  if (!options.recorded.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(recorded, bench::Recorded::read(options.recorded));
  }
  GemmReport report;
  report.options = options.bench;
  report.command = command_line();
  report.options.rivals = !options.no_rivals && !options.bench.check_only && !options.bench.ablate;
  report.options.programmatic = !options.no_programmatic && !options.bench.ablate;
  report.options.pause_seconds = options.pause_ms * 1e-3;
  report.options.settle_seconds = options.settle_ms * 1e-3;
  report.options.output = options.output == "bf16" ? CudaOutput::kBFloat16 : CudaOutput::kFloat16;
  report.options.schedules = options.schedules.empty() ? std::vector<std::string>{options.schedule}
                                                       : split_schedules(options.schedules);
  const auto begin = std::chrono::steady_clock::now();
  LIQUIDGEMM_ASSIGN_OR_RETURN(bench::GemmBench bench, bench::GemmBench::open(report.options));
  report.device = bench.device();
  report.ceilings = bench.ceilings();
  report.cublas = bench.cublas_version();
  report.driver = bench.driver_version();

  // What went wrong is said after what was right has been printed: a wrong row is never written.
  Status failure;
  bool stopped = false;
  Progress progress("Measuring", static_cast<std::int64_t>(shapes.size() * tokens.size()), "cells");
  for (const bench::Shape& shape : shapes) {
    for (const std::int64_t m : tokens) {
      if (!stopped && interrupt_flag()) {
        stopped = true;
        if (failure.ok()) failure = cancelled("interrupted");
      }
      if (stopped) continue;
      auto cell = bench.measure(shape, m);
      stopped = !cell.ok();
      if (failure.ok()) failure = cell.ok() ? cell->wrong : cell.status();
      if (stopped) continue;
      std::string detail = shape.name + ", M " + std::to_string(m);
      if (!cell->rows.empty() && cell->rows[0].ours) {
        detail += fmt::format(": {:.1f} us", cell->rows[0].ours->seconds * 1e6);
      }
      for (bench::GemmRow& row : cell->rows) report.rows.push_back(std::move(row));
      report.refused.insert(report.refused.end(), cell->refused.begin(), cell->refused.end());
      progress.advance(1, detail);
    }
  }
  progress.finish();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (const std::string& reason : report.refused) log_warning("refused: " + reason);
  if (report.rows.empty() && failure.ok()) {
    failure = unsupported("no schedule runs in any of the cells asked for");
  }
  if (report.rows.empty()) return failure;
  compare_with_recorded(std::move(recorded), report);
  if (options.json) {
    std::printf("%s", json::dump_pretty(report.to_json()).c_str());
  } else {
    std::printf("%s\n%s%s", report.table().text().c_str(), report.caption().c_str(),
                report.conclusions().c_str());
  }
  LIQUIDGEMM_RETURN_IF_ERROR(write_report(options, report));
  return failure;
}

// What the variants of the ablation are not compiled for is wrong usage.
void check_ablation(const Options& options) {
  if (!options.bench.ablate) return;
  const auto refuse = [](const std::string& why) { throw CLI::ValidationError("--ablate", why); };
  const std::pair<bool, const char*> others[] = {{options.full, "--full"},
                                                 {!options.schedule.empty(), "--schedule"},
                                                 {!options.schedules.empty(), "--schedules"},
                                                 {options.bench.check_only, "--check-only"},
                                                 {!options.recorded.empty(), "--recorded"}};
  for (const auto& [given, name] : others) {
    if (given) refuse(std::string(name) + " does not go with it");
  }
  if (options.bench.group_size != bench::kAblationGroupSize) {
    refuse(fmt::format("--group-size {}: its kernels are compiled for groups of {} alone",
                       options.bench.group_size, bench::kAblationGroupSize));
  }
  const auto known = bench::ablation_tokens();
  for (const std::string& text : options.tokens) {
    const auto tokens = bench::parse_tokens(text);
    if (!tokens.ok()) refuse(tokens.status().message());
    for (const std::int64_t m : *tokens) {
      if (std::find(known.begin(), known.end(), m) != known.end()) continue;
      refuse(fmt::format("--m {}: its kernels are compiled for {} tokens, not for {}", text,
                         fmt::join(known, ", "), m));
    }
  }
  for (const std::string& path : options.record) {
    if (std::filesystem::path(path).extension() == ".csv") {
      refuse("--record " + path + ": its results are written as .json or .md");
    }
  }
}

Status measure_cpu(const Options& options) {
  CpuGemmRequest request = options.cpu;
  LIQUIDGEMM_RETURN_IF_ERROR(choose_cells(options, request.shapes, request.tokens));
  request.group_size = options.bench.group_size;
  request.rounds = options.bench.rounds;
  request.rivals = !options.no_rivals;
  request.json = options.json;
  request.record = options.record;
  return measure_on_cpu(request);
}

// Given by the user in this command: what a variable of the environment says for every command is
// no mistake where it means nothing.
bool given(const CLI::Option& option) {
  if (option.count() == 0) return false;
  const char* value = std::getenv(option.get_envname().c_str());
  return option.get_envname().empty() || value == nullptr || option.results().back() != value;
}

// An option that means nothing on the device asked for is wrong usage.
void check_device(const CLI::App& verb, const Options& options) {
  const bool cpu = options.device == "cpu";
  const auto refuse = [&](const char* name) {
    if (!given(*verb.get_option(name))) return;
    throw CLI::ValidationError(name, cpu ? "it is for --device cuda, this is --device cpu"
                                         : "it is for --device cpu, this is --device cuda");
  };
  if (!cpu) {
    for (const char* name : {"--threads", "--isa", "--precision"}) refuse(name);
    return;
  }
  for (const char* name : {"--output", "--schedule", "--schedules", "--no-pdl", "--pause",
                           "--settle", "--check-only", "--cublas-lib", "--recorded", "--ablate"}) {
    refuse(name);
  }
  if (options.cpu.precision == "w8a8" && given(*verb.get_option("--group-size"))) {
    throw CLI::ValidationError("--group-size", "8-bit weights have no groups");
  }
}

std::string shape_problem(const std::string& text) {
  const auto shapes = bench::parse_shape(text);
  return shapes.ok() ? "" : shapes.status().message();
}

std::string tokens_problem(const std::string& text) {
  const auto tokens = bench::parse_tokens(text);
  return tokens.ok() ? "" : tokens.status().message();
}

}  // namespace

void add_bench_gemm(CLI::App& bench, Action& action) {
  CLI::App* verb =
      bench.add_subcommand("gemm", "W4A8 products beside the machine's limits, outputs checked");
  auto options = std::make_shared<Options>();
  verb->add_option("--device", options->device, "Where to run")
      ->check(CLI::IsMember({"cuda", "cpu"}))
      ->capture_default_str();
  verb->add_option("--shape", options->shapes,
                   "NxK, a layer (l3-8b.gate_up), a model (l2-7b) or others; repeatable")
      ->delimiter(',')
      ->check(CLI::Validator(shape_problem, ""));
  verb->add_option("--m", options->tokens,
                   "Tokens, comma-separated: 64, 1-512, 32-64:8 (FROM-TO:STEP) or between")
      ->delimiter(',')
      ->check(CLI::Validator(tokens_problem, ""));
  verb->add_flag("--full", options->full,
                 "All 11 goal shapes at all 12 token counts; on the CPU 10 shapes at 10");
  verb->add_option("--group-size", options->bench.group_size, "Weights of one step and offset")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  verb->add_option("--threads", options->cpu.threads, "CPU threads; 0: one for each CPU")
      ->check(CLI::Range(0, 1024))
      ->envname("LIQUIDGEMM_THREADS");
  verb->add_option("--isa", options->cpu.isa,
                   "On the CPU: require an instruction set instead of the best one")
      ->check(CLI::IsMember(isa_names()))
      ->envname("LIQUIDGEMM_ISA");
  verb->add_option("--precision", options->cpu.precision, "On the CPU: weights and activations")
      ->check(CLI::IsMember({"w4a8", "w8a8"}))
      ->capture_default_str();
  verb->add_option("--output", options->output, "Type of the outputs")
      ->check(CLI::IsMember({"f16", "bf16"}))
      ->capture_default_str();
  auto* schedule = verb->add_option("--schedule", options->schedule,
                                    "Force ours, as a schedule was printed before");
  verb->add_option("--schedules", options->schedules,
                   "Several, with ';' between: a row for each; an empty one is the default")
      ->excludes(schedule);
  verb->add_flag("--no-rivals", options->no_rivals,
                 "Ours alone; needs neither cuBLASLt nor oneDNN");
  verb->add_flag("--no-pdl", options->no_programmatic,
                 "Leave out the programmatic dependent launches");
  verb->add_option("--rounds", options->bench.rounds, "Timed rounds; the median counts")
      ->check(CLI::Range(1, 1000).description(""))
      ->capture_default_str();
  verb->add_option("--pause", options->pause_ms,
                   "Milliseconds of rest before each timed replay, in which clocks recover")
      ->check(CLI::Range(0, 10000).description(""))
      ->capture_default_str();
  verb->add_option("--settle", options->settle_ms,
                   "Milliseconds of its own replays before each timed one, if clocks fall")
      ->check(CLI::Range(0, 10000).description(""))
      ->capture_default_str();
  verb->add_flag("--check-only", options->bench.check_only,
                 "Compare outputs with the reference, time nothing");
  verb->add_option("--cublas-lib", options->bench.cublas_path,
                   "The cuBLASLt library, or the folder it is in");
  verb->add_option("--recorded", options->recorded,
                   "A folder like bench/baselines: show its rivals where cuBLASLt agrees");
  verb->add_option("--record", options->record,
                   "Also write the results to this .json, .csv or .md file; repeatable");
  verb->add_flag("--ablate", options->bench.ablate,
                 "Our kernel beside variants: other unpacking, one warp group");
  verb->add_flag("--json", options->json, "Print JSON");
  verb->footer(
      "Without --shape, --m and --full: four layers at six token counts, under a minute.\n"
      "--shape others and --m between are layers and token counts that no goal names.\n"
      "On the CPU the rival is oneDNN, from 64 tokens on; the options there are --shape, --m,\n"
      "--full, --no-rivals, --group-size, --precision, --threads, --isa, --rounds, --json and\n"
      "--record.\n"
      "\n"
      "Examples:\n"
      "  liquid bench gemm --device cuda\n"
      "  liquid bench gemm --device cpu --threads 2\n"
      "  liquid bench gemm --device cuda --full --recorded bench/baselines --record all.csv\n"
      "  liquid bench gemm --shape l3-8b.down --m 16,64 --no-rivals --schedules 'A;B'\n"
      "  liquid bench gemm --shape l2-7b.o --m 1-512 --no-rivals --no-pdl --rounds 3\n"
      "  liquid bench gemm --shape others --m between\n"
      "  liquid bench gemm --shape 5120x13824 --check-only\n"
      "  liquid bench gemm --ablate --shape l3-8b.gate_up --m 16,128");
  verb->callback([options, verb, &action] {
    check_device(*verb, *options);
    check_ablation(*options);
    action = [options] {
      return options->device == "cpu" ? measure_cpu(*options) : measure(*options);
    };
  });
}

}  // namespace liquidgemm::cli
