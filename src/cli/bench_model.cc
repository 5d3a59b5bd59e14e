#include "cli/bench_model.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/status_macros.h"
#include "bench/device_bench.h"
#include "bench/memory.h"
#include "bench/model_cost.h"
#include "cli/bench_records.h"
#include "cli/machine.h"
#include "cli/quantized_cache.h"
#include "cli/table.h"
#include "liquidgemm_version.h"
#include "model/checkpoint/dummy_source.h"
#include "model/checkpoint/presets.h"

namespace liquidgemm::cli {

namespace {

// Takes any of a preset's names, gives the listed one.
CLI::Validator preset_name() {
  const auto check = [](std::string& name) {
    const auto config = preset_config(name);
    if (!config.ok()) return config.status().message();
    name = preset_of_alias(name);
    return std::string();
  };
  return CLI::Validator(check, "");
}

// With the names in lines that fit beside the options.
std::string preset_help() {
  std::string text = "Random weights in the shape of a known model:";
  std::size_t line = 0;  // where it begins; the first is full
  for (const std::string& name : preset_names()) {
    const bool breaks = line == 0 || text.size() - line + name.size() > 60;
    if (breaks) line = text.size() + 1;
    text += (breaks ? "\n" : " ") + name + ",";
  }
  text.pop_back();
  return text;
}

}  // namespace

void add_bench_model_options(CLI::App& verb, BenchModelOptions& options) {
  CLI::Option* model = add_model_argument(verb, options.model);
  verb.add_option("--preset", options.preset, preset_help())
      ->transform(preset_name())
      ->excludes(model);
  add_backend_options(verb, options.model);
  add_precision_option(verb, options.precision);
  add_group_size_option(verb, options.group_size);
  add_head_option(verb, options.head);
  verb.add_option("--seed", options.seed, "Of prompts, lengths and random weights")
      ->capture_default_str();
  verb.add_option("--record", options.record,
                  "Also write the results to this .json, .csv or .md file; repeatable");
  verb.add_flag("--json", options.json, "Print JSON");
}

void check_bench_model_options(const CLI::App& verb, const BenchModelOptions& options) {
  if (options.preset.empty() && options.model.model.empty()) {
    throw CLI::ValidationError("MODEL", "a model or --preset NAME is required");
  }
  if (options.preset.empty() && verb.get_option("--group-size")->count() > 0) {
    throw CLI::ValidationError("--group-size", "it is for --preset; a model has its own groups");
  }
  if (options.preset.empty() && verb.get_option("--lm-head")->count() > 0) {
    throw CLI::ValidationError("--lm-head", "it is for --preset; a model has its own head");
  }
}

Result<BenchModel> open_bench_model(const BenchModelOptions& options) {
  BenchModel model;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Precision precision, parse_precision(options.precision));
  if (options.preset.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(model.source, open_source(options.model.model));
    model.name = std::filesystem::path(model.source.path).filename().string();
  } else {
    LIQUIDGEMM_ASSIGN_OR_RETURN(ModelConfig config, preset_config(options.preset));
    model.name = "preset " + options.preset;
    const int group_size = group_size_for(options.group_size, config);
    model.source = dummy_source(model.name, std::move(config), group_size, options.seed,
                                head_scheme(options.head));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(model.load,
                              load_options(options.model, precision, model.source.config));
  model.load.text = false;
  model.gpu = expects_gpu(model.load);
  if (precision == Precision::kAuto || precision == Precision::kW4A8) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(model.source,
                                quantized_source(std::move(model.source), options.model.threads));
  }
  return model;
}

Status check_length(const BenchModel& model, const std::string& cause, std::int64_t longest) {
  const std::int64_t most = model.source.config.max_position;
  if (longest <= most) return ok_status();
  return invalid_argument(fmt::format("{}: sequences of up to {} tokens, but {} takes at most {}",
                                      cause, longest, model.name, most));
}

Result<LoadedModel> load_bench_model(const BenchModel& model) {
  if (!model.gpu) {
    LIQUIDGEMM_RETURN_IF_ERROR(
        bench::check_memory(bench::model_bytes(model.source.config, model.load.limits),
                            model.name + ": its weights, KV cache and work buffers take ",
                            "take a smaller model, shorter lengths or fewer requests at once"));
  }
  // Limits for a GPU would not be the CPU's.
  LoadOptions load = model.load;
  if (model.gpu) load.device = DeviceChoice::kCuda;
  return load_with_progress(model.source, load);
}

std::string MeasuredModel::caption() const {
  const std::string model = fmt::format("{}, {}, {} KV, {} of weights", name, precision, kv_format,
                                        bytes_text(weight_bytes));
  if (!gpu.empty()) return fmt::format("{}; {}, driver {}.\n", model, gpu, driver);
  return fmt::format("{}; {}, {} {}, {}.\n", model, cpu, threads,
                     threads == 1 ? "thread" : "threads", isa);
}

json::Object MeasuredModel::to_json() const {
  json::Array lines;
  for (const std::string& line : kernels) lines.push_back(json::Value(line));
  json::Object object;
  if (gpu.empty()) {
    object = {{"device", "cpu"}, {"cpu", cpu}, {"threads", threads}, {"isa", isa}};
  } else {
    object = {{"device", "cuda"}, {"gpu", gpu}, {"driver", driver}, {"cpu", cpu}};
  }
  object["version"] = LIQUIDGEMM_VERSION;
  object["commit"] = LIQUIDGEMM_COMMIT;
  object["date"] = today();
  object["command"] = command;
  object["model"] = name;
  object["precision"] = precision;
  object["kv_cache_dtype"] = kv_format;
  object["weight_bytes"] = weight_bytes;
  object["kernels"] = std::move(lines);
  return object;
}

Result<MeasuredModel> describe_model(const BenchModel& bench, const LoadedModel& loaded) {
  const Backend& backend = *loaded.backend;
  MeasuredModel model{.name = bench.name,
                      .gpu = {},
                      .driver = {},
                      .cpu = cpu_name(),
                      .threads = loaded.pool->threads(),
                      .isa = std::string(isa_name(bench.load.isa.value_or(best_isa()))),
                      .precision = std::string(precision_name(loaded.precision)),
                      .kv_format = std::string(kv_format_name(backend.limits().kv_format)),
                      .kernels = backend.describe(),
                      .weight_bytes = static_cast<double>(backend.weight_bytes()),
                      .command = command_line()};
  if (loaded.on_gpu) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const CudaDevice device, open_cuda_device());
    model.gpu = device.name;
    model.driver = bench::driver_name(device);
  }
  return model;
}

}  // namespace liquidgemm::cli
