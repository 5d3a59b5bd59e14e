// "quantization_config": strict, because a key that is not understood may change what the stored
// integers mean.
#include <initializer_list>

#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/printable.h"
#include "model/checkpoint/quantized_tensors.h"
#include "quant/liquid_quant.h"

namespace liquidgemm {
namespace {

constexpr int kFormatVersion = 1;

Status refuse_unknown_keys(const json::Reader& reader,
                           std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : reader.object()) {
    bool found = false;
    for (std::string_view name : known) found = found || name == std::string_view(key);
    if (!found) {
      return unsupported(reader.field(escaped(key)) +
                         ": unknown key; this build reads format_version 1 of LiquidQuant "
                         "checkpoints only");
    }
  }
  return ok_status();
}

Status check_group_size(const json::Reader& reader, std::int64_t size) {
  if (size == 32 || size == 64 || size == 128) return ok_status();
  return corrupt(reader.field("group_size") + ": expected 32, 64 or 128, found " +
                 std::to_string(size));
}

Result<LayerQuantization> parse_layer(const json::Reader& reader, const LinearName& module) {
  LayerQuantization layer;
  LIQUIDGEMM_RETURN_IF_ERROR(refuse_unknown_keys(reader, {"scheme", "group_size"}));
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string scheme, reader.required_string("scheme"));
  if (scheme == "liquid4") {
    layer.scheme = WeightScheme::kLiquid4;
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t size, reader.required_int("group_size", 1, 1 << 20));
    LIQUIDGEMM_RETURN_IF_ERROR(check_group_size(reader, size));
    layer.group_size = static_cast<int>(size);
    const bool lookup = module.module == kEmbeddingModule || module.module == kHeadModule;
    if (lookup || !liquid_quant_takes(module.n, module.k)) {
      return corrupt(reader.field("scheme") + ": liquid4 does not fit " + module.module + " of " +
                     shape_string({module.n, module.k}) +
                     (lookup ? "; embeddings are stored as int8, lm_head as int8 or fp16"
                             : "; it needs N a multiple of 8 and K a multiple of 32"));
    }
    return layer;
  }
  if (scheme == "int8") {
    layer.scheme = WeightScheme::kInt8;
  } else if (scheme == "float") {
    layer.scheme = WeightScheme::kFloat;
  } else if (scheme == "fp16") {
    layer.scheme = WeightScheme::kFp16;
    if (module.module != kHeadModule) {
      return corrupt(reader.field("scheme") + ": fp16 is for " + kHeadModule + ", not for " +
                     module.module);
    }
  } else {
    return unsupported(reader.field("scheme") + ": " + printable(scheme) +
                       "; expected liquid4, int8, float or fp16");
  }
  if (reader.object().contains("group_size")) {
    return corrupt(reader.field("group_size") + ": only scheme \"liquid4\" has groups");
  }
  return layer;
}

Status parse_layers(const json::Object& entries, const ModelConfig& config,
                    const std::string& where, QuantizationConfig& quantization) {
  const std::string path = "quantization_config.layers";
  const json::Reader reader(entries, where, path);
  for (const LinearName& module : weight_modules(config)) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* entry, reader.required_object(module.module));
    const json::Reader inner(*entry, where, path + "." + module.module);
    LIQUIDGEMM_ASSIGN_OR_RETURN(quantization.layers[module.module], parse_layer(inner, module));
  }
  for (const auto& [key, value] : entries) {
    if (!quantization.layers.contains(key)) {
      if (std::string_view(key) == kHeadModule) {
        return corrupt(reader.field(escaped(key)) +
                       ": with \"tie_word_embeddings\" the embedding is the head; a head of its "
                       "own needs it to be false");
      }
      return corrupt(reader.field(escaped(key)) + ": this model has no such layer");
    }
  }
  return ok_status();
}

}  // namespace

Result<QuantizationConfig> parse_quantization(const json::Object& object, const ModelConfig& config,
                                              const std::string& where) {
  const json::Reader reader(object, where, "quantization_config");
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string method, reader.required_string("quant_method"));
  if (method != "liquidquant") {
    return unsupported(reader.field("quant_method") + ": " + printable(method) +
                       " checkpoints are not read; start from the original, unquantised model "
                       "(liquid quantize MODEL -o OUT)");
  }
  QuantizationConfig quantization;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t version,
                              reader.required_int("format_version", 0, 1 << 30));
  if (version != kFormatVersion) {
    return unsupported(reader.field("format_version") + ": this build reads version 1, found " +
                       std::to_string(version) +
                       "; use a newer program, or quantize the original model again");
  }
  LIQUIDGEMM_RETURN_IF_ERROR(refuse_unknown_keys(
      reader, {"quant_method", "format_version", "bits", "group_size", "layers"}));
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t bits, reader.required_int("bits", 1, 64));
  if (bits != 4) {
    return unsupported(reader.field("bits") + ": expected 4, found " + std::to_string(bits));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t size, reader.required_int("group_size", 1, 1 << 20));
  LIQUIDGEMM_RETURN_IF_ERROR(check_group_size(reader, size));
  quantization.group_size = static_cast<int>(size);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* layers, reader.required_object("layers"));
  LIQUIDGEMM_RETURN_IF_ERROR(parse_layers(*layers, config, where, quantization));
  return quantization;
}

}  // namespace liquidgemm
