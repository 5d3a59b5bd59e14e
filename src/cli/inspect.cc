// `liquid inspect`: what a checkpoint holds, and how far a quantized one is from its source.

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "base/json.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/sizes.h"
#include "cli/table.h"
#include "model/checkpoint/quantized_tensors.h"
#include "model/weights.h"

namespace liquidgemm::cli {
namespace {

struct Options {
  std::string path;
  std::string source;
  bool json = false;
};

// ||W - Wq||^2 / ||W||^2 of one module, which the original may have under another name; sums are
// kept in double.
Result<double> relative_error(WeightLoader& original, const std::string& original_name,
                              WeightLoader& quantized, const LinearName& module) {
  LinearGroup bare{.name = module.module, .parts = {module}, .n = module.n, .k = module.k};
  bare.parts[0].bias = false;  // weights only
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<LoadedMatrix> after, quantized.linear_group(bare));
  bare.parts[0].module = original_name;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<LoadedMatrix> before, original.linear_group(bare));
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < before[0].f32.size(); ++i) {
    const double weight = before[0].f32[i];
    const double difference = weight - static_cast<double>(after[0].f32[i]);
    error += difference * difference;
    norm += weight * weight;
  }
  return norm > 0.0 ? error / norm : 0.0;
}

// By module name. Empty without --source.
Result<std::map<std::string, double>> measure_errors(const ModelSource& quantized,
                                                     const Options& options) {
  std::map<std::string, double> errors;
  if (options.source.empty()) return errors;
  if (!quantized.config.quantization) {
    return invalid_argument(quantized.path +
                            ": not quantized, so there is no error to measure with --source");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const ModelSource original, open_source(options.source));
  ThreadPool pool;
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      WeightLoader before,
      WeightLoader::create(original, Precision::kFp32, 64, StepRule::kSearch, pool));
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      WeightLoader after,
      WeightLoader::create(quantized, Precision::kAuto, 64, StepRule::kSearch, pool));
  // W8A8 folders have no float form of their own; every stored form reads back as float.
  after.read_as_float();
  const std::vector<LinearName> modules = weight_modules(quantized.config);
  Progress progress("Comparing", static_cast<std::int64_t>(modules.size()), "modules");
  for (const LinearName& module : modules) {
    if (interrupt_flag()) return cancelled("interrupted");
    // An FP16 head lies apart from the embedding that it was made from.
    const bool tied = module.module == kHeadModule && original.config.tied_embeddings;
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        errors[module.module],
        relative_error(before, tied ? kEmbeddingModule : module.module, after, module));
    progress.advance(1, module.module);
  }
  progress.finish();
  return errors;
}

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

std::string family_name(const ModelConfig& config) {
  return config.architecture + ", " + std::to_string(config.layers) + " layers, hidden " +
         std::to_string(config.hidden_size) + ", " + std::to_string(config.heads) + " heads (" +
         std::to_string(config.kv_heads) + " KV) of " + std::to_string(config.head_dim) + ", FFN " +
         std::to_string(config.intermediate_size) + ", vocabulary " +
         std::to_string(config.vocab_size) + (config.tied_embeddings ? " (tied)" : "") +
         ", context " + std::to_string(config.max_position);
}

Status inspect(const Options& options) {
  interrupt_flag();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const ModelSource source, open_source(options.path));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto errors, measure_errors(source, options));
  const Sizes sizes = measure_sizes(source);
  // A module's error stands on the line of its first tensor.
  std::map<std::string, bool> shown;
  Table table(errors.empty()
                  ? std::vector<std::string>{"tensor", "type", "shape", "bytes"}
                  : std::vector<std::string>{"tensor", "type", "shape", "bytes", "error"});
  json::Array tensors;
  for (const TensorInfo& tensor : source.tensors->tensors()) {
    std::vector<std::string> row{tensor.name, std::string(dtype_name(tensor.dtype)),
                                 shape_string(tensor.shape), std::to_string(tensor.bytes)};
    json::Object object{{"name", tensor.name},
                        {"type", row[1]},
                        {"shape", json::Array(tensor.shape.begin(), tensor.shape.end())},
                        {"bytes", tensor.bytes}};
    if (!errors.empty()) {
      const std::string module = module_of(tensor.name);
      const auto found = errors.find(module);
      const bool first = found != errors.end() && !std::exchange(shown[module], true);
      row.push_back(first ? number_text(100.0 * found->second, 3) + " %" : "");
      if (first) object["relative_squared_error"] = found->second;
    }
    table.add(std::move(row));
    tensors.push_back(std::move(object));
  }
  if (options.json) {
    const json::Object object{
        {"path", source.path},
        {"format", source.format == ModelSource::Format::kGguf ? "gguf" : "huggingface"},
        {"architecture", source.config.architecture},
        {"quantized", source.config.quantization.has_value()},
        {"linear_bytes", sizes.linear_bytes},
        {"linear_bits_per_weight", sizes.linear_bits()},
        {"model_bytes", sizes.model_bytes},
        {"model_bits_per_weight", sizes.model_bits()},
        {"tensors", tensors}};
    std::printf("%s", json::dump_pretty(object).c_str());
    return ok_status();
  }
  std::printf("%s\n%s\n\n%s", source.path.c_str(), family_name(source.config).c_str(),
              table.text().c_str());
  if (!errors.empty()) {
    std::printf("\nerror: squared error of a module's weights relative to their squared norm\n");
  }
  std::printf("\nlinear layers  %s weights in %s, %s bits a weight\n",
              number_text(sizes.linear_weights / 1e6, 4).append(" M").c_str(),
              bytes_text(sizes.linear_bytes).c_str(), number_text(sizes.linear_bits(), 3).c_str());
  std::printf("whole model    %s weights in %s, %s bits a weight\n",
              number_text(sizes.model_weights / 1e6, 4).append(" M").c_str(),
              bytes_text(sizes.model_bytes).c_str(), number_text(sizes.model_bits(), 3).c_str());
  return ok_status();
}

}  // namespace

void add_inspect(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb =
      app.add_subcommand("inspect", "Show tensors, formats, sizes and quantization error");
  auto options = std::make_shared<Options>();
  verb->add_option("PATH", options->path, "A folder, a .gguf file, or a name in the local cache")
      ->required();
  verb->add_option("--source", options->source,
                   "The original of a quantized PATH: shows each layer's error");
  verb->add_flag("--json", options->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  liquid inspect model.gguf\n"
      "  liquid inspect model-w4a8 --source model.gguf");
  verb->callback([options, &action] { action = [options] { return inspect(*options); }; });
}

}  // namespace liquidgemm::cli
