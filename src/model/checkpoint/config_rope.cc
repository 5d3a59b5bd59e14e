// Rotary embedding's base and scaling, in the spellings of transformers 4 and 5:
//   4: "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, ...}
//   5: "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, ...}
#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

constexpr double kLargestTheta = 1e15;

Status read_theta(const json::Reader& reader, double& theta) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, reader.optional_number("rope_theta", 1.0, kLargestTheta));
  if (value) theta = *value;
  return ok_status();
}

Status read_llama3(const json::Reader& reader, RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::kLlama3;
  LIQUIDGEMM_ASSIGN_OR_RETURN(scaling.factor, reader.required_number("factor", 1.0, 1e6));
  LIQUIDGEMM_ASSIGN_OR_RETURN(scaling.low_freq_factor,
                              reader.required_number("low_freq_factor", 1e-6, 1e6));
  LIQUIDGEMM_ASSIGN_OR_RETURN(scaling.high_freq_factor,
                              reader.required_number("high_freq_factor", 1e-6, 1e6));
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      scaling.original_max_position,
      reader.required_int("original_max_position_embeddings", 1, SizeLimits::kPosition));
  // The formula divides by their difference.
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return corrupt(reader.field("high_freq_factor") + ": must be larger than low_freq_factor");
  }
  return ok_status();
}

Status read_scaling(const json::Reader& reader, RopeScaling& scaling) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto type, reader.optional_string("rope_type"));
  std::string_view name = "rope_type";
  if (!type) {  // the spelling before transformers 4.43
    LIQUIDGEMM_ASSIGN_OR_RETURN(type, reader.optional_string("type"));
    if (type) name = "type";
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto rotary,
                              reader.optional_number("partial_rotary_factor", 0.0, 1.0));
  if (rotary && *rotary != 1.0) {
    return unsupported(reader.field("partial_rotary_factor") +
                       ": rotating only a part of each head is not supported; expected 1.0");
  }
  if (!type || *type == "default") {
    // A scaling without a type would be silently ignored; one with a factor surely means it.
    if (!type && reader.object().contains("factor")) {
      return corrupt(reader.field("rope_type") + ": missing beside \"factor\"");
    }
    return ok_status();
  }
  if (*type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
    LIQUIDGEMM_ASSIGN_OR_RETURN(scaling.factor, reader.required_number("factor", 1.0, 1e6));
    return ok_status();
  }
  if (*type == "llama3") return read_llama3(reader, scaling);
  return unsupported(reader.field(name) + ": " + printable(*type) +
                     " is not supported; supported are default, linear and llama3");
}

}  // namespace

Status parse_rope(const json::Reader& reader, const std::string& where, ModelConfig& config) {
  LIQUIDGEMM_RETURN_IF_ERROR(read_theta(reader, config.rope_theta));
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* object, reader.optional_object(name));
    if (object == nullptr) continue;
    // One set of parameters for each kind of layer ({"full_attention": {...}, ...}).
    for (const auto& [key, value] : *object) {
      if (value.is_object()) {
        return unsupported(reader.field(name) + ": parameters by layer type are not supported");
      }
    }
    const json::Reader inner(*object, where, name);
    LIQUIDGEMM_RETURN_IF_ERROR(read_theta(inner, config.rope_theta));
    return read_scaling(inner, config.rope_scaling);
  }
  return ok_status();
}

}  // namespace liquidgemm
