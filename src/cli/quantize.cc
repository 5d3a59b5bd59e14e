// `liquid quantize`: a published checkpoint to a LiquidQuant folder.

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/quantized_cache.h"
#include "cli/table.h"
#include "model/kv_calibration.h"

namespace liquidgemm::cli {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string group_size = "auto";
  std::string step = "search";
  std::string scheme = "w4a8";
  std::string head = "int8";
  std::string kv_scales;  // a text
  int threads = 0;
  bool overwrite = false;
  bool json = false;
};

json::Object to_json(const QuantizeTotals& totals) {
  return {{"weights", totals.weights},
          {"bytes_before", totals.bytes_before},
          {"bytes_after", totals.bytes_after},
          {"bits_per_weight", totals.bits_per_weight()},
          {"relative_squared_error", totals.relative_error()}};
}

std::string scheme_name(const LayerQuantization& stored) {
  if (stored.scheme == WeightScheme::kLiquid4) {
    return "liquid4 g" + std::to_string(stored.group_size);
  }
  if (stored.scheme == WeightScheme::kFp16) return "fp16";
  return stored.scheme == WeightScheme::kInt8 ? "int8" : "float";
}

json::Object to_json(const QuantizeReport& report) {
  json::Array modules;
  for (const QuantizedModule& module : report.modules) {
    modules.push_back(json::Object{{"name", module.name},
                                   {"shape", json::Array{module.n, module.k}},
                                   {"scheme", scheme_name(module.stored)},
                                   {"bytes_before", module.bytes_before},
                                   {"bytes_after", module.bytes_after},
                                   {"relative_squared_error", module.relative_error()}});
  }
  return {{"path", report.path},
          {"shards", report.shards},
          {"linear_layers", to_json(report.linears)},
          {"model", to_json(report.model)},
          {"modules", modules}};
}

void print(const QuantizeReport& report) {
  Table table({"", "before", "after", "bits/weight", "relative error"});
  const auto add = [&](const char* name, const QuantizeTotals& totals) {
    table.add({name, bytes_text(static_cast<double>(totals.bytes_before)),
               bytes_text(static_cast<double>(totals.bytes_after)),
               number_text(totals.bits_per_weight(), 3), number_text(totals.relative_error(), 3)});
  };
  add("linear layers", report.linears);
  add("whole model", report.model);
  std::printf("%s", table.text().c_str());
  // Layers whose shape LiquidQuant does not take are stored as INT8: never in silence.
  int listed = 0;
  for (const QuantizedModule& module : report.modules) {
    const bool table_module = module.name == "lm_head" || module.name == "model.embed_tokens";
    if (table_module || module.stored.scheme != WeightScheme::kInt8) continue;
    if (listed++ == 0) std::printf("Stored as INT8 (K is no multiple of 32, or N of 8):\n");
    std::printf("  %s [%lld, %lld]\n", module.name.c_str(), static_cast<long long>(module.n),
                static_cast<long long>(module.k));
  }
  std::printf("Written: %s\n", report.path.c_str());
}

constexpr std::size_t kMaxText = std::size_t{64} << 20;
// Read for the cache's scales: a channel's largest value hardly grows any more.
constexpr std::size_t kScaleTokens = 16384;

Result<std::vector<KvScales>> measure_scales(const ModelSource& source, const std::string& path,
                                             const QuantizeOptions& settings, ThreadPool& pool) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxText));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Tokenizer tokenizer,
                              Tokenizer::build(source.tokenizer, source.path));
  std::vector<TokenId> tokens = tokenizer.encode(text, /*add_special_tokens=*/false);
  tokens.resize(std::min(tokens.size(), kScaleTokens));
  const bool int8 = settings.scheme == WeightScheme::kInt8;
  const KvCalibration calibration{.precision = int8 ? Precision::kW8A8 : Precision::kW4A8,
                                  .group_size = settings.group_size,
                                  .rule = settings.rule};
  Progress progress("Reading for KV scales", static_cast<std::int64_t>(tokens.size()), "tokens");
  std::int64_t shown = 0;
  auto scales = measure_kv_scales(source, tokens, calibration, pool, interrupt_flag(),
                                  [&](std::int64_t done, std::int64_t) {
                                    progress.advance(done - shown);
                                    shown = done;
                                  });
  if (!scales.ok()) return scales.status().with_context(path);
  progress.finish();
  return scales;
}

Status quantize(const Options& options, const Globals& globals) {
  interrupt_flag();
  QuantizeOptions settings;
  settings.scheme = options.scheme == "w8a8" ? WeightScheme::kInt8 : WeightScheme::kLiquid4;
  settings.head = head_scheme(options.head);
  settings.overwrite = options.overwrite;
  LIQUIDGEMM_ASSIGN_OR_RETURN(settings.rule, parse_step_rule(options.step));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const ModelSource source, open_source(options.model));
  settings.group_size = group_size_for(options.group_size, source.config);
  ThreadPool pool(options.threads);
  if (!options.kv_scales.empty() && !source.config.quantization) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(settings.kv_scales,
                                measure_scales(source, options.kv_scales, settings, pool));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const QuantizeReport report,
                              quantize_with_progress(source, options.out, settings, pool));
  if (options.json) {
    std::printf("%s", json::dump_pretty(to_json(report)).c_str());
  } else if (!globals.quiet) {
    print(report);
  }
  return ok_status();
}

}  // namespace

void add_quantize(CLI::App& app, Globals& globals, Action& action) {
  CLI::App* verb = app.add_subcommand("quantize", "Make a W4A8 checkpoint from a published one");
  auto options = std::make_shared<Options>();
  verb->add_option("MODEL,-m,--model", options->model,
                   "A Hugging Face folder, a .gguf file, or a name in the local cache")
      ->required();
  verb->add_option("-o,--output", options->out, "The folder to write")->required();
  add_group_size_option(*verb, options->group_size);
  verb->add_option("--step", options->step,
                   "How steps are chosen: search (least error), round, ceil")
      ->check(CLI::IsMember({"search", "round", "ceil"}))
      ->capture_default_str();
  verb->add_option("--scheme", options->scheme, "w4a8, or w8a8 for comparison")
      ->check(CLI::IsMember({"w4a8", "w8a8"}))
      ->capture_default_str();
  verb->add_option("--lm-head", options->head,
                   "How the head is stored: int8, or fp16 (twice the bytes, almost no\n"
                   "error; apart from the embedding also where the model ties them)")
      ->check(CLI::IsMember({"int8", "fp16"}))
      ->capture_default_str();
  verb->add_option("--kv-scales", options->kv_scales,
                   "A text that the model reads first, to measure and store the scales\n"
                   "of --kv-cache-dtype int8-static")
      ->type_name("TEXT");
  verb->add_option("--threads", options->threads, "CPU threads; 0: one for each CPU")
      ->check(CLI::Range(0, 1024))
      ->envname("LIQUIDGEMM_THREADS");
  verb->add_flag("--overwrite", options->overwrite,
                 "Replace a checkpoint that is there, once the new one is whole");
  verb->add_flag("--json", options->json, "Print a JSON report");
  verb->footer(
      "Examples:\n"
      "  liquid quantize ~/models/Llama-3.2-1B-Instruct -o llama-w4a8\n"
      "  liquid quantize model.gguf -o model-w4a8 --group-size 32\n"
      "  liquid quantize ~/models/Llama-3.2-1B-Instruct -o llama-w4a8 --kv-scales book.txt\n"
      "\n"
      "Ctrl-C keeps what is finished: the same command goes on from there. Memory does not grow\n"
      "with the model, but for --kv-scales, which loads it.");
  verb->callback([options, &globals, &action] {
    action = [options, &globals] { return quantize(*options, globals); };
  });
}

}  // namespace liquidgemm::cli
