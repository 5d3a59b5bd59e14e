#include "model/quantize_plan.h"

#include <cstdio>
#include <utility>

#include "base/status_macros.h"
#include "model/checkpoint/quantized_tensors.h"
#include "model/checkpoint/safetensors_writer.h"

namespace liquidgemm {
namespace {

class Planner {
 public:
  Planner(const ModelSource& source, const QuantizeOptions& options)
      : source_(source), options_(options) {}

  Result<QuantizePlan> plan() {
    plan_.quantization.group_size = options_.group_size;
    // Each norm goes in front of the first module of its layer: files read in the graph's order.
    ModelConfig config = source_.config;
    if (options_.head == WeightScheme::kFp16) config.tied_embeddings = false;
    plan_.tied_embeddings = config.tied_embeddings;
    const std::vector<LinearName> modules = weight_modules(config);
    const std::vector<NormName> norms = norm_tensors(source_.config);
    std::size_t next_norm = 0;
    for (const LinearName& module : modules) {
      const std::string layer = layer_prefix(module.module);
      begin_shard_if_full();
      while (!layer.empty() && next_norm < norms.size() &&
             norms[next_norm].tensor.starts_with(layer)) {
        LIQUIDGEMM_RETURN_IF_ERROR(add_norm(norms[next_norm++].tensor));
      }
      if (!layer.empty() && next_scales_ < options_.kv_scales.size() &&
          k_scale_tensor(static_cast<std::int64_t>(next_scales_)).starts_with(layer)) {
        LIQUIDGEMM_RETURN_IF_ERROR(add_kv_scales());
      }
      LIQUIDGEMM_RETURN_IF_ERROR(add_module(module));
    }
    while (next_norm < norms.size()) {
      LIQUIDGEMM_RETURN_IF_ERROR(add_norm(norms[next_norm++].tensor));
    }
    name_shards();
    return std::move(plan_);
  }

 private:
  // "model.layers.3." of a module in layer 3, empty elsewhere.
  static std::string layer_prefix(const std::string& module) {
    constexpr std::string_view kLayers = "model.layers.";
    if (!module.starts_with(kLayers)) return "";
    return module.substr(0, module.find('.', kLayers.size()) + 1);
  }

  PlannedShard& shard() { return plan_.shards.back(); }

  void begin_shard_if_full() {
    if (!plan_.shards.empty() && bytes_ < options_.shard_bytes) return;
    plan_.shards.emplace_back();
    bytes_ = 0;
  }

  Result<std::size_t> add(std::string name, DType dtype, Shape shape) {
    const auto bytes = tensor_bytes(dtype, shape);
    if (!bytes) return invalid_argument(name + ": shape " + shape_string(shape) + " is too large");
    bytes_ += *bytes;
    shard().tensors.push_back({std::move(name), dtype, std::move(shape), *bytes});
    return shard().tensors.size() - 1;
  }

  LayerQuantization stored_as(const LinearName& linear, bool is_linear) const {
    if (linear.module == kHeadModule) return {options_.head, 0};
    const bool fits = is_linear && liquid_quant_takes(linear.n, linear.k);
    if (options_.scheme == WeightScheme::kLiquid4 && fits) {
      return {WeightScheme::kLiquid4, options_.group_size};
    }
    return {WeightScheme::kInt8, 0};
  }

  Status add_module(const LinearName& linear) {
    PlannedModule module;
    module.linear = linear;
    module.is_linear = !layer_prefix(linear.module).empty();
    module.stored = stored_as(linear, module.is_linear);
    const std::string& name = linear.module;
    const bool from_embedding = name == kHeadModule && source_.config.tied_embeddings;
    module.source = (from_embedding ? kEmbeddingModule : name) + ".weight";
    const std::int64_t n = linear.n;
    const std::int64_t k = linear.k;
    if (module.stored.scheme == WeightScheme::kLiquid4) {
      const std::int64_t groups = (k + options_.group_size - 1) / options_.group_size;
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.values,
                                  add(name + ".weight_packed", DType::kU8, {n, k / 2}));
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.group_scale,
                                  add(name + ".group_scale", DType::kU8, {n, groups}));
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.group_offset,
                                  add(name + ".group_offset", DType::kU8, {n, groups}));
    } else if (module.stored.scheme == WeightScheme::kFp16) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.values, add(name + ".weight", DType::kF16, {n, k}));
    } else {
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.values, add(name + ".weight_int8", DType::kI8, {n, k}));
    }
    if (module.stored.scheme != WeightScheme::kFp16) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.weight_scale,
                                  add(name + ".weight_scale", DType::kF32, {n}));
    }
    if (linear.bias) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(module.bias, add(name + ".bias", DType::kF32, {n}));
    }
    plan_.quantization.layers[name] = module.stored;
    plan_.weights += n * k;
    shard().modules.push_back(std::move(module));
    return ok_status();
  }

  Status add_norm(const std::string& name) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_.tensors->require(name));
    PlannedVector vector;
    vector.copy_bytes = source_.format == ModelSource::Format::kHuggingFace &&
                        dtype_block_elements(info->dtype) == 1;
    LIQUIDGEMM_ASSIGN_OR_RETURN(
        vector.tensor, add(name, vector.copy_bytes ? info->dtype : DType::kF32, info->shape));
    shard().vectors.push_back(vector);
    return ok_status();
  }

  // Of the next layer.
  Status add_kv_scales() {
    const auto layer = static_cast<std::int64_t>(next_scales_);
    const KvScales& scales = options_.kv_scales[next_scales_++];
    for (const auto& [name, values] : {std::pair(k_scale_tensor(layer), &scales.k),
                                       std::pair(v_scale_tensor(layer), &scales.v)}) {
      PlannedVector vector{.tensor = 0, .copy_bytes = false, .values = values};
      const auto width = static_cast<std::int64_t>(values->size());
      LIQUIDGEMM_ASSIGN_OR_RETURN(vector.tensor, add(name, DType::kF32, {width}));
      shard().vectors.push_back(vector);
    }
    return ok_status();
  }

  void name_shards() {
    const std::size_t count = plan_.shards.size();
    for (std::size_t i = 0; i < count; ++i) {
      char name[64];
      std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, count);
      plan_.shards[i].file = count == 1 ? "model.safetensors" : name;
      plan_.file_bytes += SafetensorsWriter::file_bytes(plan_.shards[i].tensors);
    }
  }

  const ModelSource& source_;
  const QuantizeOptions& options_;
  QuantizePlan plan_;
  std::int64_t bytes_ = 0;  // of the shard at hand
  std::size_t next_scales_ = 0;
};

}  // namespace

Result<QuantizePlan> plan_quantization(const ModelSource& source, const QuantizeOptions& options) {
  const int size = options.group_size;
  if (size != 32 && size != 64 && size != 128) {
    return invalid_argument("group size " + std::to_string(size) + ": expected 32, 64 or 128");
  }
  if (options.scheme == WeightScheme::kFloat) {
    return invalid_argument("quantize: the scheme is liquid4 or int8, not float");
  }
  if (options.head != WeightScheme::kInt8 && options.head != WeightScheme::kFp16) {
    return invalid_argument("quantize: the head is int8 or fp16");
  }
  if (options.shard_bytes < 1) {
    return invalid_argument("quantize: shards of " + std::to_string(options.shard_bytes) +
                            " bytes; expected at least 1");
  }
  if (source.config.quantization) {
    return invalid_argument(source.path + ": is quantized already; start from the original model");
  }
  const ModelConfig& config = source.config;
  const auto width = static_cast<std::size_t>(config.kv_heads * config.head_dim);
  bool complete = options.kv_scales.empty() ||
                  options.kv_scales.size() == static_cast<std::size_t>(config.layers);
  for (const KvScales& scales : options.kv_scales) {
    complete = complete && scales.k.size() == width && scales.v.size() == width;
  }
  if (!complete) {
    return invalid_argument("quantize: the KV cache's scales are not those of " + source.path);
  }
  return Planner(source, options).plan();
}

}  // namespace liquidgemm
