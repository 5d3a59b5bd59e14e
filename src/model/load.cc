#include "model/load.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "base/status_macros.h"
#include "model/cpu_backend.h"
#include "model/cuda_backend.h"
#include "model/packed_weights_cache.h"
#include "model/quantize_fingerprint.h"

namespace liquidgemm {
namespace {

Status add_text(const ModelSource& source, const TemplateLimits& limits, LoadedModel& model) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::build(source.tokenizer, source.path));
  if (tokenizer.vocabulary_size() > source.config.vocab_size) {
    return corrupt(
        source.path + ": the tokenizer has ids up to " +
        std::to_string(tokenizer.vocabulary_size() - 1) + ", but the model's vocabulary ends at " +
        std::to_string(source.config.vocab_size - 1) + " (config.json: field \"vocab_size\")");
  }
  model.tokenizer = std::make_unique<Tokenizer>(std::move(tokenizer));
  if (!source.chat_template.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(ChatTemplate chat_template,
                                ChatTemplate::parse(source.chat_template, source.path, limits));
    model.chat_template = std::make_unique<ChatTemplate>(std::move(chat_template));
  }
  return ok_status();
}

// Nothing where none is wanted, or there is no checkpoint to keep them beside (a benchmark's random
// weights).
Result<std::optional<PackedWeightsCache>> open_cache(const ModelSource& source,
                                                     const LoadOptions& options,
                                                     Precision precision, Isa isa) {
  if (!options.cache_packed_weights) return std::optional<PackedWeightsCache>();
  std::error_code error;
  if (!std::filesystem::exists(source.path, error)) {
    log_warning(source.path + ": packed weights are kept of models in files only");
    return std::optional<PackedWeightsCache>();
  }
  PackedWeightsKey key{.isa = isa, .precision = precision, .fingerprint = 0};
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      key.fingerprint,
      packed_weights_fingerprint(source, precision, options.group_size, options.step_rule));
  return std::optional<PackedWeightsCache>(
      std::in_place, packed_weights_path(source.path, options.packed_weights_folder, key), key);
}

void keep(const PackedWeightsCache& cache, const CpuBackend& backend, ThreadPool& pool) {
  if (cache.complete()) {
    log_debug("packed weights read from " + cache.path());
    return;
  }
  log_info("writing packed weights into " + cache.path());
  const Status status = cache.save(backend.packed_matrices(), pool);
  if (status.ok()) return;
  log_warning("packed weights are not kept, the model runs without: " + status.message());
}

// The GPU's backend, planned; null where the CPU is to run the model.
Result<std::unique_ptr<Backend>> gpu_backend(const ModelSource& source, const LoadOptions& options,
                                             const BackendLimits& limits, WeightLoader& weights) {
  std::unique_ptr<Backend> none;
  if (options.device == DeviceChoice::kCpu) return none;
  // What the CPU cannot run either says why the GPU does not.
  const bool half = weights.precision() == Precision::kFp16;
  const bool required = options.device == DeviceChoice::kCuda || half;
  const auto refuse = [&](const Status& reason) -> Result<std::unique_ptr<Backend>> {
    if (required) return reason.with_context(half ? "precision fp16" : "--device cuda");
    log_debug("the model runs on the CPU: " + reason.message());
    return std::unique_ptr<Backend>();
  };
  if (options.isa) {
    if (required) {
      return invalid_argument(std::string("--isa: an instruction set of the CPU, not of ") +
                              (half ? "precision fp16" : "--device cuda"));
    }
    return none;
  }
  auto backend = make_cuda_backend({.memory_bytes = options.gpu_memory});
  if (!backend.ok()) return refuse(backend.status());
  const Status planned = (*backend)->plan(build_graph(source.config), weights, limits);
  if (planned.ok()) return std::move(*backend);
  // A model that does not fit is an error: the CPU would not be what was meant.
  if (planned.code() == StatusCode::kUnsupported) return refuse(planned);
  return planned;
}

}  // namespace

bool expects_gpu(const LoadOptions& options) {
  if (options.device == DeviceChoice::kCuda) return true;
  return options.device == DeviceChoice::kAuto && !options.isa && cuda_usable().ok();
}

Result<LoadedModel> load_model(const ModelSource& source, const LoadOptions& options) {
  const Isa isa = options.isa.value_or(best_isa());
  LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa));

  LoadedModel model;
  model.path = source.path;
  model.config = source.config;
  model.generation = source.generation;
  model.bos_token = source.bos_token;
  model.eos_token = source.eos_token;
  if (options.text) LIQUIDGEMM_RETURN_IF_ERROR(add_text(source, options.chat_template, model));

  model.pool = std::make_unique<ThreadPool>(options.threads);
  LIQUIDGEMM_ASSIGN_OR_RETURN(WeightLoader weights,
                              WeightLoader::create(source, options.precision, options.group_size,
                                                   options.step_rule, *model.pool));
  model.precision = weights.precision();
  weights.set_report(options.report);

  BackendLimits limits = options.limits;
  if (limits.max_position <= 0) limits.max_position = source.config.max_position;
  limits.max_position = std::min(limits.max_position, source.config.max_position);
  LIQUIDGEMM_ASSIGN_OR_RETURN(model.backend, gpu_backend(source, options, limits, weights));
  if (model.backend) {
    model.on_gpu = true;
    return model;
  }
  if (expects_gpu(options)) {
    // What was meant for a GPU, on the CPU after all.
    limits.max_sequences = std::min(limits.max_sequences, BackendLimits{}.max_sequences);
    limits.max_rows = std::min(limits.max_rows, BackendLimits{}.max_rows);
  }
  if (limits.pages <= 0) {
    // Every sequence of a step at its longest.
    limits.pages = pages_for(limits.max_position) * limits.max_sequences;
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::optional<PackedWeightsCache> cache,
                              open_cache(source, options, model.precision, isa));
  auto backend = std::make_unique<CpuBackend>(isa, *model.pool, cache ? &*cache : nullptr);
  LIQUIDGEMM_RETURN_IF_ERROR(backend->plan(build_graph(source.config), weights, limits));
  if (cache) keep(*cache, *backend, *model.pool);
  model.backend = std::move(backend);
  return model;
}

}  // namespace liquidgemm
