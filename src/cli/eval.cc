// `liquid eval`: how good and how fast the precisions of a model are.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "cli/evaluation.h"
#include "cli/machine.h"
#include "cli/sizes.h"
#include "cli/table.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

std::string percent(double share) { return number_text(100.0 * share, 3) + " %"; }

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

json::Object to_json(const LoadedModel& model, const PerplexityRow& row,
                     const PerplexityRow& reference) {
  return {{"precision", std::string(precision_name(model.precision))},
          {"device", model.on_gpu ? "cuda" : "cpu"},
          {"perplexity", row.perplexity},
          {"perplexity_ratio", row.perplexity / reference.perplexity},
          {"top1_agreement", row.top1_agreement},
          {"kl_divergence", row.divergence},
          {"scored_tokens", row.scored},
          {"seconds", row.seconds}};
}

std::string setting_line(const EvaluationOptions& options, const PerplexityRow& row) {
  return std::to_string(row.scored) + " scored tokens of " + file_name(options.text) +
         " in windows of " + std::to_string(options.context);
}

std::string dither_line(const EvaluationOptions& options) {
  if (!options.dither) return "";
  return "The reference is the dithered model (seed " + std::to_string(*options.dither) +
         "): each 4-bit block weight plus uniform noise of half a step.\n";
}

Status ppl(const EvaluationOptions& options, bool json) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Evaluation evaluation, load_evaluation(options));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<PerplexityRow> rows,
                              measure_quality(evaluation, options));
  if (json) {
    json::Array results;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      results.push_back(to_json(evaluation.models[i], rows[i], rows[0]));
    }
    json::Object object{{"model", evaluation.source.path}, {"text", options.text},
                        {"context", options.context},      {"commit", LIQUIDGEMM_COMMIT},
                        {"machine", cpu_name()},           {"results", results}};
    if (options.dither) object["dither_seed"] = *options.dither;
    std::printf("%s", json::dump_pretty(object).c_str());
    return ok_status();
  }
  Table table({"precision", "perplexity", "ratio", "top-1 agreement", "KL divergence", "seconds"});
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const PerplexityRow& row = rows[i];
    table.add({std::string(precision_name(evaluation.models[i].precision)),
               number_text(row.perplexity), number_text(row.perplexity / rows[0].perplexity),
               percent(row.top1_agreement), number_text(row.divergence, 3),
               number_text(row.seconds, 3)});
  }
  std::printf("%s%s%s.\n", table.text().c_str(), dither_line(options).c_str(),
              setting_line(options, rows[0]).c_str());
  return ok_status();
}

struct SummaryOptions {
  EvaluationOptions evaluation;
  bool json = false;
  std::string record;
};

bool has_both(const Evaluation& evaluation) {
  const auto runs_on = [&](bool gpu) {
    return std::any_of(evaluation.models.begin(), evaluation.models.end(),
                       [&](const LoadedModel& model) { return model.on_gpu == gpu; });
  };
  return runs_on(false) && runs_on(true);
}

// A row for each precision. With a GPU beside the CPU its figures stand to the right of the CPU's.
Table figures(const Evaluation& evaluation, const std::vector<PerplexityRow>& rows,
              const std::vector<Speed>& speeds) {
  using Cell = std::function<std::string(std::size_t)>;  // of one of evaluation.models
  const std::pair<std::string, Cell> columns[] = {
      {"perplexity", [&](std::size_t i) { return number_text(rows[i].perplexity); }},
      {"top-1 agreement", [&](std::size_t i) { return percent(rows[i].top1_agreement); }},
      {"prompt tokens/s", [&](std::size_t i) { return number_text(speeds[i].prompt, 3); }},
      {"generated tokens/s", [&](std::size_t i) { return number_text(speeds[i].generation, 3); }},
  };
  const bool both = has_both(evaluation);
  std::vector<std::string> header{"precision"};
  for (const auto& [name, cell] : columns) {
    header.push_back(name);
    if (both) header.push_back("on GPU");
  }
  Table table(header);
  for (const Evaluation::Contender& contender : evaluation.contenders) {
    std::vector<std::string> line{std::string(precision_name(contender.precision))};
    for (const auto& [name, cell] : columns) {
      const auto text = [&](std::optional<std::size_t> i) { return i ? cell(*i) : "-"; };
      line.push_back(text(both ? contender.cpu : contender.cpu ? contender.cpu : contender.gpu));
      if (both) line.push_back(text(contender.gpu));
    }
    table.add(line);
  }
  return table;
}

struct Machines {
  std::string text;  // "CPU, 2 threads; on GPU: NVIDIA H200"
  std::string gpu;   // empty: no model runs on one
};

Machines machines_of(const Evaluation& evaluation) {
  Machines machines;
  machines.text =
      cpu_name() + ", " + std::to_string(evaluation.models[0].pool->threads()) + " threads";
  for (const LoadedModel& model : evaluation.models) {
    if (!model.on_gpu) continue;
    const std::vector<std::string> names = find_gpus().names;
    machines.gpu = names.empty() ? "a GPU" : names[0].substr(0, names[0].find(','));
    machines.text += has_both(evaluation) ? "; on GPU: " : "; all on ";
    machines.text += machines.gpu;
    break;
  }
  return machines;
}

Status summary(const SummaryOptions& options, const std::string& command) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Evaluation evaluation, load_evaluation(options.evaluation));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<PerplexityRow> rows,
                              measure_quality(evaluation, options.evaluation));
  Table sizes({"size", "linear layers", "bits/weight", "whole model", "bits/weight"});
  json::Array size_rows;
  const auto add_size = [&](const std::string& name, const Sizes& size) {
    sizes.add({name, bytes_text(size.linear_bytes), number_text(size.linear_bits(), 3),
               bytes_text(size.model_bytes), number_text(size.model_bits(), 3)});
    size_rows.push_back(json::Object{{"name", name},
                                     {"linear_bytes", size.linear_bytes},
                                     {"linear_bits_per_weight", size.linear_bits()},
                                     {"model_bytes", size.model_bytes},
                                     {"model_bits_per_weight", size.model_bits()}});
  };
  const bool gguf = evaluation.source.format == ModelSource::Format::kGguf;
  add_size("BF16, as published", bf16_sizes(evaluation.source));
  if (gguf) add_size("GGUF, as downloaded", measure_sizes(evaluation.source));
  if (evaluation.quantized) add_size("LiquidQuant W4A8", measure_sizes(*evaluation.quantized));

  json::Array results;
  std::vector<Speed> speeds;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Speed speed,
                                measure_speed(evaluation.models[i], evaluation.tokens));
    speeds.push_back(speed);
    json::Object row = to_json(evaluation.models[i], rows[i], rows[0]);
    row["prompt_tokens_per_second"] = speed.prompt;
    row["generated_tokens_per_second"] = speed.generation;
    results.push_back(row);
  }
  const Table table = figures(evaluation, rows, speeds);
  const Machines machines = machines_of(evaluation);
  std::string caption =
      file_name(evaluation.source.path) + " on " + machines.text + ". Perplexity over " +
      setting_line(options.evaluation, rows[0]) + "; agreement with the first row's best token; " +
      "speed of one request, prompt of " + std::to_string(kSpeedPrompt) + " tokens.";
  if (!evaluation.without_gpu.empty()) {
    caption += "\nNo GPU columns: " + evaluation.without_gpu + ".";
  }
  if (options.json) {
    json::Object object{{"model", evaluation.source.path},
                        {"machine", machines.text},
                        {"commit", LIQUIDGEMM_COMMIT},
                        {"sizes", size_rows},
                        {"results", results}};
    if (!machines.gpu.empty()) object["gpu"] = machines.gpu;
    if (!evaluation.without_gpu.empty()) object["without_gpu"] = evaluation.without_gpu;
    std::printf("%s", json::dump_pretty(object).c_str());
  } else {
    std::printf("%s\n%s%s%s\n", sizes.text().c_str(), table.text().c_str(),
                dither_line(options.evaluation).c_str(), caption.c_str());
  }
  if (options.record.empty()) return ok_status();
  return write_file_atomically(
      options.record, sizes.markdown() + "\n" + table.markdown() + "\n" +
                          dither_line(options.evaluation) + caption + "\n\nRecorded " + today() +
                          " by liquid " + LIQUIDGEMM_VERSION + ", commit " + LIQUIDGEMM_COMMIT +
                          ", on " + operating_system() + ":\n\n    " + command + "\n");
}

void add_options(CLI::App& verb, EvaluationOptions& options) {
  add_model_options(verb, options.model);
  verb.add_option("--text", options.text, "Plain UTF-8 text to score")->required();
  verb.add_option("--tokens", options.tokens, "Score at least this many tokens")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  verb.add_option("--context", options.context, "Tokens of a window; each starts afresh")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->capture_default_str();
  verb.add_option("--precision", options.precisions,
                  "Comma-separated; the first is the reference (default: all that a CPU\n"
                  "runs; fp16 on a GPU)")
      ->delimiter(',')
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "w8a8", "w4a16", "w4a8"}));
  verb.add_option("--quantized", options.quantized,
                  "Take w4a8 and w4a16 from this LiquidQuant folder");
  add_group_size_option(verb, options.group_size);
  verb.add_option("--dither", options.dither,
                  "Seed: first add noise of half a step to 4-bit GGUF weights, so that\n"
                  "their grid does not flatter 4-bit results");
}

}  // namespace

void add_eval(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb = app.add_subcommand("eval", "Measure quality and speed");
  verb->require_subcommand(1);
  verb->footer(
      "Examples:\n"
      "  liquid eval ppl model.gguf --text data/devils-dictionary.txt\n"
      "  liquid eval ppl qwen-w4a8 --text book.txt --tokens 16384 --context 2048 --json\n"
      "  liquid eval summary model.gguf --quantized model-w4a8 --text book.txt");

  CLI::App* perplexity = verb->add_subcommand("ppl", "Perplexity over a text, by precision");
  auto options = std::make_shared<EvaluationOptions>();
  auto json = std::make_shared<bool>(false);
  add_options(*perplexity, *options);
  perplexity->add_flag("--json", *json, "Print JSON");
  perplexity->footer(
      "Examples:\n"
      "  liquid eval ppl model.gguf --text data/devils-dictionary.txt\n"
      "  liquid eval ppl ~/models/Qwen3-0.6B --text book.txt --precision fp32,w4a8");
  perplexity->callback(
      [options, json, &action] { action = [options, json] { return ppl(*options, *json); }; });

  CLI::App* table = verb->add_subcommand("summary", "Sizes, perplexity and speed in one table");
  auto all = std::make_shared<SummaryOptions>();
  add_options(*table, all->evaluation);
  table->add_flag("--json", all->json, "Print JSON");
  table->add_option("--record", all->record, "Also write the tables to this Markdown file");
  table->footer(
      "Where there is a Hopper GPU, its figures stand beside the CPU's; --device cpu or cuda\n"
      "leaves the other out.\n\n"
      "Example:\n"
      "  liquid eval summary model.gguf --quantized model-w4a8 --text book.txt");
  table->callback([all, &action] {
    action = [all] {
      all->evaluation.beside = true;
      const EvaluationOptions& options = all->evaluation;
      std::string command = "liquid eval summary " + file_name(options.model.model);
      if (!options.quantized.empty()) command += " --quantized " + file_name(options.quantized);
      command += " --text " + options.text + " --tokens " + std::to_string(options.tokens) +
                 " --context " + std::to_string(options.context);
      for (std::size_t i = 0; i < options.precisions.size(); ++i) {
        command += (i == 0 ? " --precision " : ",") + options.precisions[i];
      }
      if (options.group_size != "auto") command += " --group-size " + options.group_size;
      if (options.dither) command += " --dither " + std::to_string(*options.dither);
      return summary(*all, command);
    };
  });
}

}  // namespace liquidgemm::cli
