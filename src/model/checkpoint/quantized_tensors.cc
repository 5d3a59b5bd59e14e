#include "model/checkpoint/quantized_tensors.h"

#include <set>

#include "base/status_macros.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

bool is_plain_float(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16: return true;
    default: return false;
  }
}

bool is_float_or_block(DType dtype) {
  return is_plain_float(dtype) || dtype_block_elements(dtype) > 1;
}

// Looks tensors up and remembers which were asked for.
class LayoutChecker {
 public:
  explicit LayoutChecker(const TensorSource& source) : source_(source) {}

  // Of exactly this type.
  Status expect(const std::string& name, DType dtype, const Shape& shape) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, find(name, shape));
    if (info->dtype == dtype) return ok_status();
    return wrong_type(*info, std::string(dtype_name(dtype)));
  }

  // Of any type that reads as floats.
  Status expect_floats(const std::string& name, const Shape& shape) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, find(name, shape));
    if (is_float_or_block(info->dtype)) return ok_status();
    return wrong_type(*info, "a float type");
  }

  Status refuse_others() const {
    for (const TensorInfo& info : source_.tensors()) {
      if (!seen_.contains(info.name)) {
        return corrupt(source_.where() + ": tensor " + printable(info.name) +
                       " does not belong to this model as config.json describes it");
      }
    }
    return ok_status();
  }

 private:
  Result<const TensorInfo*> find(const std::string& name, const Shape& shape) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, source_.require(name));
    seen_.insert(name);
    if (info->shape != shape) {
      return corrupt(source_.where() + ": tensor " + printable(name) + " has shape " +
                     shape_string(info->shape) + ", the config expects " + shape_string(shape));
    }
    return info;
  }

  Status wrong_type(const TensorInfo& info, const std::string& expected) const {
    return corrupt(source_.where() + ": tensor " + printable(info.name) + " has type " +
                   std::string(dtype_name(info.dtype)) + ", expected " + expected);
  }

  const TensorSource& source_;
  std::set<std::string, std::less<>> seen_;
};

Status check_float_module(const LinearName& linear, LayoutChecker& checker) {
  LIQUIDGEMM_RETURN_IF_ERROR(
      checker.expect_floats(linear.module + ".weight", {linear.n, linear.k}));
  if (linear.bias) return checker.expect_floats(linear.module + ".bias", {linear.n});
  return ok_status();
}

Status check_quantized_module(const LinearName& linear, const LayerQuantization& layer,
                              LayoutChecker& checker) {
  if (layer.scheme == WeightScheme::kFloat) return check_float_module(linear, checker);
  const std::int64_t n = linear.n, k = linear.k;
  if (layer.scheme == WeightScheme::kFp16) {
    return checker.expect(linear.module + ".weight", DType::kF16, {n, k});
  }
  if (layer.scheme == WeightScheme::kLiquid4) {
    const std::int64_t groups = (k + layer.group_size - 1) / layer.group_size;
    LIQUIDGEMM_RETURN_IF_ERROR(
        checker.expect(linear.module + ".weight_packed", DType::kU8, {n, k / 2}));
    LIQUIDGEMM_RETURN_IF_ERROR(
        checker.expect(linear.module + ".group_scale", DType::kU8, {n, groups}));
    LIQUIDGEMM_RETURN_IF_ERROR(
        checker.expect(linear.module + ".group_offset", DType::kU8, {n, groups}));
  } else {
    LIQUIDGEMM_RETURN_IF_ERROR(checker.expect(linear.module + ".weight_int8", DType::kI8, {n, k}));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(checker.expect(linear.module + ".weight_scale", DType::kF32, {n}));
  if (linear.bias) return checker.expect(linear.module + ".bias", DType::kF32, {n});
  return ok_status();
}

// Static scales of the KV cache are optional; where present, one for each channel.
Status check_kv_scales(const ModelConfig& config, const TensorSource& source,
                       LayoutChecker& checker) {
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const char* suffix : {"k_scale", "v_scale"}) {
      const std::string name = "model.layers." + std::to_string(layer) + ".self_attn." + suffix;
      if (source.find(name) == nullptr) continue;
      LIQUIDGEMM_RETURN_IF_ERROR(
          checker.expect(name, DType::kF32, {config.kv_heads * config.head_dim}));
    }
  }
  return ok_status();
}

}  // namespace

std::vector<LinearName> weight_modules(const ModelConfig& config) {
  std::vector<LinearName> modules;
  modules.push_back({kEmbeddingModule, config.vocab_size, config.hidden_size, false});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (LinearName& linear : layer_linears(config, layer)) modules.push_back(std::move(linear));
  }
  if (!config.tied_embeddings) {
    modules.push_back({kHeadModule, config.vocab_size, config.hidden_size, false});
  }
  return modules;
}

std::vector<NormName> norm_tensors(const ModelConfig& config) {
  std::vector<NormName> norms;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    norms.push_back({prefix + "input_layernorm.weight", config.hidden_size});
    if (config.qk_norm) {
      norms.push_back({prefix + "self_attn.q_norm.weight", config.head_dim});
      norms.push_back({prefix + "self_attn.k_norm.weight", config.head_dim});
    }
    norms.push_back({prefix + "post_attention_layernorm.weight", config.hidden_size});
  }
  norms.push_back({"model.norm.weight", config.hidden_size});
  return norms;
}

Status check_float_layout(const ModelConfig& config, const TensorSource& source) {
  LayoutChecker checker(source);
  for (const LinearName& linear : weight_modules(config)) {
    LIQUIDGEMM_RETURN_IF_ERROR(check_float_module(linear, checker));
  }
  for (const NormName& norm : norm_tensors(config)) {
    LIQUIDGEMM_RETURN_IF_ERROR(checker.expect_floats(norm.tensor, {norm.size}));
  }
  // Other tensors (rotary_emb.inv_freq, a stored copy of a tied head) are ignored, as
  // transformers does.
  return ok_status();
}

Status check_quantized_layout(const ModelConfig& config, const TensorSource& source) {
  if (!config.quantization) {
    return internal_error("check_quantized_layout: the config has no quantization_config");
  }
  LayoutChecker checker(source);
  for (const LinearName& linear : weight_modules(config)) {
    const auto found = config.quantization->layers.find(linear.module);
    if (found == config.quantization->layers.end()) {
      return corrupt(source.where() + ": quantization_config.layers does not list " +
                     linear.module);
    }
    LIQUIDGEMM_RETURN_IF_ERROR(check_quantized_module(linear, found->second, checker));
  }
  for (const NormName& norm : norm_tensors(config)) {
    LIQUIDGEMM_RETURN_IF_ERROR(checker.expect_floats(norm.tensor, {norm.size}));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check_kv_scales(config, source, checker));
  return checker.refuse_others();
}

}  // namespace liquidgemm
