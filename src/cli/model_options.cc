#include "cli/model_options.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/log.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "gemm/gemm.h"
#include "model/quantizer.h"

namespace liquidgemm::cli {

CLI::Option* add_model_argument(CLI::App& verb, ModelOptions& options) {
  return verb.add_option("MODEL,-m,--model", options.model,
                         "A Hugging Face folder, a .gguf file, or a name in the local cache");
}

void add_backend_options(CLI::App& verb, ModelOptions& options) {
  verb.add_option("--device", options.device,
                  "Where the model runs (auto: on a Hopper GPU where there is one)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str()
      ->envname("LIQUIDGEMM_DEVICE");
  verb.add_option("--gpu-memory", options.gpu_memory,
                  "Memory of the GPU for weights, KV cache and buffers, as 80GiB\n"
                  "(default: what is free)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 50).description(""))
      ->type_name("BYTES")
      ->envname("LIQUIDGEMM_GPU_MEMORY");
  verb.add_option("--threads", options.threads, "CPU threads; 0: one for each CPU")
      ->check(CLI::Range(0, 1024))
      ->envname("LIQUIDGEMM_THREADS");
  verb.add_option("--isa", options.isa, "Require an instruction set instead of the best one")
      ->check(CLI::IsMember(isa_names()))
      ->envname("LIQUIDGEMM_ISA");
  verb.add_option("--kv-cache-dtype", options.kv_cache_dtype,
                  "KV cache: auto (f16; f32 with fp32), f16, fp16, bf16, bfloat16, int8,\n"
                  "int8-static (of quantize --kv-scales), int4 (on a GPU), f32 (CPU)")
      ->check(CLI::IsMember(
                  {"auto", "f16", "fp16", "bf16", "bfloat16", "int8", "int8-static", "int4", "f32"})
                  .description(""))
      ->type_name("FORMAT")
      ->envname("LIQUIDGEMM_KV_CACHE_DTYPE");
  verb.add_flag("--cache-packed-weights", options.cache_packed_weights,
                "Keep the weights as the kernels read them in a file beside the\n"
                "model, and start from it the next time")
      ->envname("LIQUIDGEMM_CACHE_PACKED_WEIGHTS");
}

void add_model_options(CLI::App& verb, ModelOptions& options) {
  add_model_argument(verb, options)->required();
  add_backend_options(verb, options);
  verb.add_option("--max-model-len,--context-length,--ctx-size,-c", options.max_model_len,
                  "Longest sequence, prompt and answer; K and M suffixes (default: the\n"
                  "model's own, at most 8K)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24).description(""))
      ->type_name("N")
      ->envname("LIQUIDGEMM_MAX_MODEL_LEN");
}

void add_precision_option(CLI::App& verb, std::string& precision) {
  verb.add_option("--precision", precision, "Weights and activations (auto: w4a8; fp16 on a GPU)")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "w8a8", "w4a16", "w4a8"}))
      ->envname("LIQUIDGEMM_PRECISION");
}

void add_group_size_option(CLI::App& verb, std::string& group_size) {
  verb.add_option("--group-size", group_size,
                  "Weights that share a step and an offset (auto: 64, small models 32)")
      ->check(CLI::IsMember({"auto", "32", "64", "128"}))
      ->capture_default_str();
}

int group_size_for(const std::string& group_size, const ModelConfig& config) {
  return group_size == "auto" ? default_group_size(config) : std::stoi(group_size);
}

void add_head_option(CLI::App& verb, std::string& head) {
  verb.add_option("--lm-head", head,
                  "The head's weights: int8, or fp16 (twice the bytes, almost no error)")
      ->check(CLI::IsMember({"int8", "fp16"}))
      ->capture_default_str();
}

WeightScheme head_scheme(const std::string& head) {
  return head == "fp16" ? WeightScheme::kFp16 : WeightScheme::kInt8;
}

Result<ModelSource> open_source(const std::string& model) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string path, resolve_model(model));
  return open_model_source(path);
}

Result<LoadOptions> load_options(const ModelOptions& options, Precision precision,
                                 const ModelConfig& config) {
  LoadOptions load;
  load.precision = precision;
  load.device = options.device == "cuda"  ? DeviceChoice::kCuda
                : options.device == "cpu" ? DeviceChoice::kCpu
                                          : DeviceChoice::kAuto;
  load.gpu_memory = static_cast<std::size_t>(options.gpu_memory);
  load.threads = options.threads;
  load.cache_packed_weights = options.cache_packed_weights;
  load.packed_weights_folder = cache_folder() + "/packed-weights";
  if (!options.isa.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Isa isa, parse_isa(options.isa));
    LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa));
    load.isa = isa;
  } else if (best_isa() == Isa::kScalar) {
    log_warning("this machine has no AVX2: plain C++ kernels run, many times slower");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(load.limits.kv_format, parse_kv_format(options.kv_cache_dtype));
  // The reference keeps keys and values exact.
  if (options.kv_cache_dtype == "auto" && precision == Precision::kFp32) {
    load.limits.kv_format = KvFormat::kF32;
  }
  load.limits.max_sequences = 1;
  load.limits.max_logits_rows = 1;
  load.limits.pages = 0;
  load.limits.max_position = options.max_model_len > 0
                                 ? options.max_model_len
                                 : std::min(config.max_position, kDefaultLength);
  return load;
}

Result<LoadedModel> load_with_progress(const ModelSource& source, LoadOptions options) {
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<Progress> progress;
  std::int64_t shown = 0;
  options.report = [&](std::int64_t done, std::int64_t total) {
    if (interrupt_flag()) return cancelled("interrupted while loading " + source.path);
    if (!progress && std::chrono::steady_clock::now() - start > std::chrono::seconds(1)) {
      progress = std::make_unique<Progress>("Loading", total, "layers");
    }
    if (progress) {
      progress->advance(done - shown);
      shown = done;
    }
    return ok_status();
  };
  auto model = load_model(source, options);
  if (model.ok() && progress) progress->finish();
  return model;
}

}  // namespace liquidgemm::cli
