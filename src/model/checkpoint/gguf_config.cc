// The config that a GGUF file implies: its metadata, and which tensors it has.
#include <charconv>
#include <cmath>

#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/gguf_source.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

// GGUF stores float32. 1e-5 was written as the nearest float; the shortest decimal that reads back
// to that float is the number that the published config.json has.
double shortest_decimal(double stored) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text), static_cast<float>(stored));
  double value = stored;
  std::from_chars(text, end.ptr, value);
  return value;
}

// The metadata of one architecture: keys begin with its name.
class Fields {
 public:
  Fields(const GgufMetadata& metadata, const char* architecture)
      : metadata_(metadata), prefix_(std::string(architecture) + ".") {}

  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  std::string field(std::string_view name) const { return metadata_.field(key(name)); }

  Status size(std::string_view name, std::int64_t high, std::int64_t& out) const {
    LIQUIDGEMM_ASSIGN_OR_RETURN(out, metadata_.required_int(key(name), 1, high));
    return ok_status();
  }
  Status size_or(std::string_view name, std::int64_t high, std::int64_t missing,
                 std::int64_t& out) const {
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, metadata_.optional_int(key(name), 1, high));
    out = value.value_or(missing);
    return ok_status();
  }
  Status number(std::string_view name, double low, double high, double& out) const {
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, metadata_.optional_number(key(name), low, high));
    if (value) out = shortest_decimal(*value);
    return ok_status();
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

const StoredTensor* find_tensor(const GgufFile& file, std::string_view name) {
  for (const StoredTensor& tensor : file.tensors) {
    if (tensor.info.name == name) return &tensor;
  }
  return nullptr;
}

Result<const FamilyTraits*> find_family(const GgufMetadata& metadata) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string name, metadata.required_string("general.architecture"));
  for (const FamilyTraits& traits : supported_families()) {
    if (name == traits.gguf_name) return &traits;
  }
  return unsupported(metadata.field("general.architecture") + ": " + printable(name) +
                     " is not supported; supported are llama, qwen2 and qwen3");
}

Status read_vocabulary(const GgufFile& file, const Fields& fields, ModelConfig& config) {
  const StoredTensor* embedding = find_tensor(file, "token_embd.weight");
  if (embedding == nullptr || embedding->info.shape.size() != 2) {
    return corrupt(file.metadata.where() +
                   ": tensor \"token_embd.weight\" is missing or not a matrix; is this file a "
                   "whole model?");
  }
  const std::int64_t rows = embedding->info.shape[0];
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.size_or("vocab_size", SizeLimits::kVocabulary, rows, config.vocab_size));
  if (config.vocab_size != rows || rows > SizeLimits::kVocabulary) {
    return corrupt(fields.field("vocab_size") + ": found " + std::to_string(config.vocab_size) +
                   ", but token_embd.weight has " + std::to_string(rows) + " rows (at most " +
                   std::to_string(SizeLimits::kVocabulary) + " are accepted)");
  }
  return ok_status();
}

Status read_sizes(const GgufFile& file, const Fields& fields, ModelConfig& config) {
  using L = SizeLimits;
  LIQUIDGEMM_RETURN_IF_ERROR(fields.size("block_count", L::kLayers, config.layers));
  LIQUIDGEMM_RETURN_IF_ERROR(fields.size("embedding_length", L::kWidth, config.hidden_size));
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.size("feed_forward_length", L::kWidth, config.intermediate_size));
  LIQUIDGEMM_RETURN_IF_ERROR(fields.size("context_length", L::kPosition, config.max_position));
  LIQUIDGEMM_RETURN_IF_ERROR(fields.size("attention.head_count", L::kHeads, config.heads));
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.size_or("attention.head_count_kv", L::kHeads, config.heads, config.kv_heads));
  LIQUIDGEMM_RETURN_IF_ERROR(read_vocabulary(file, fields, config));

  std::int64_t rotary = 0, value_length = 0;
  LIQUIDGEMM_RETURN_IF_ERROR(fields.size_or("rope.dimension_count", L::kHeadDim,
                                            config.hidden_size / config.heads, rotary));
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.size_or("attention.key_length", L::kHeadDim, rotary, config.head_dim));
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.size_or("attention.value_length", L::kHeadDim, config.head_dim, value_length));
  if (file.metadata.has(fields.key("rope.dimension_count")) && rotary != config.head_dim) {
    return unsupported(fields.field("rope.dimension_count") +
                       ": rotating only a part of each head is not supported");
  }
  if (value_length != config.head_dim) {
    return unsupported(fields.field("attention.value_length") +
                       ": heads of values must be as wide as heads of keys");
  }
  return ok_status();
}

Status refuse_unsupported_maths(const GgufMetadata& metadata, const Fields& fields) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto split,
                              metadata.optional_int("split.count", 0, SizeLimits::kVocabulary));
  if (split && *split > 1) {
    return unsupported(metadata.field("split.count") +
                       ": this file is one part of several; join them first "
                       "(llama-gguf-split --merge FIRST OUT)");
  }
  for (const char* name :
       {"expert_count", "attention.sliding_window", "attention.scale", "logit_scale",
        "embedding_scale", "residual_scale", "attn_logit_softcapping", "final_logit_softcapping"}) {
    const GgufValue* value = metadata.find(fields.key(name));
    const auto* count = value == nullptr ? nullptr : std::get_if<std::uint64_t>(value);
    if (value != nullptr && !(count != nullptr && *count == 0)) {
      return unsupported(fields.field(name) + ": models that use it are not supported");
    }
  }
  return ok_status();
}

Status read_rope(const GgufFile& file, const Fields& fields, ModelConfig& config) {
  LIQUIDGEMM_RETURN_IF_ERROR(fields.number("rope.freq_base", 1.0, 1e15, config.rope_theta));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto type,
                              file.metadata.optional_string(fields.key("rope.scaling.type")));
  const StoredTensor* factors = find_tensor(file, "rope_freqs.weight");
  // "linear" with a factor of 1 and "none" both say nothing.
  double factor = 1.0;
  LIQUIDGEMM_RETURN_IF_ERROR(fields.number("rope.scaling.factor", 0.0, 1e6, factor));
  if (type && *type != "none" && *type != "linear") {
    return unsupported(fields.field("rope.scaling.type") + ": " + printable(*type) +
                       " is not supported; supported are none, linear and llama3's factors");
  }
  if (type && *type == "linear" && factor != 1.0) {
    if (factor < 1.0 || factors != nullptr) {
      return unsupported(fields.field("rope.scaling.factor") +
                         ": expected 1 or larger, and no rope_freqs.weight beside it");
    }
    config.rope_scaling.kind = RopeScaling::Kind::kLinear;
    config.rope_scaling.factor = factor;
  }
  return ok_status();
}

// Which biases there are shows in the tensors. Layer 0 speaks for all: check_float_layout then asks
// for every layer's.
void find_biases(const GgufFile& file, ModelConfig& config) {
  const auto has = [&](const char* name) { return find_tensor(file, name) != nullptr; };
  switch (config.family) {
    case ModelFamily::kLlama:
      config.mlp_bias = has("blk.0.ffn_down.bias");
      config.qkv_bias = config.output_bias = has("blk.0.attn_q.bias");
      break;
    case ModelFamily::kQwen2: config.qkv_bias = true; break;
    case ModelFamily::kQwen3:
      config.qk_norm = true;
      config.qkv_bias = config.output_bias = has("blk.0.attn_q.bias");
      break;
  }
  config.tied_embeddings = !has("output.weight");
}

// The factors of transformers' "llama3" rule, for one frequency.
double llama3_factor(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2.0 * M_PI / frequency;
  const double original = static_cast<double>(scaling.original_max_position);
  const double low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  if (wavelength < original / high) return 1.0;
  if (wavelength > original / low) return scaling.factor;
  const double smooth = (original / wavelength - low) / (high - low);
  return 1.0 / ((1.0 - smooth) / scaling.factor + smooth);
}

}  // namespace

Result<RopeScaling> rope_scaling_from_factors(std::span<const float> factors, double theta,
                                              const std::string& where) {
  double largest = 1.0;
  bool plain = true;
  for (float factor : factors) {
    if (!(factor >= 1.0f) || !std::isfinite(factor)) {
      return corrupt(where + ": a frequency factor is " + std::to_string(factor) +
                     ", expected 1 or larger");
    }
    plain = plain && factor == 1.0f;
    largest = std::max(largest, static_cast<double>(factor));
  }
  RopeScaling scaling;
  if (plain) return scaling;
  scaling.kind = RopeScaling::Kind::kLlama3;
  scaling.factor = largest;
  scaling.low_freq_factor = 1.0;
  // Only the ratios original/low and original/high matter, so low stays 1. What models publish is
  // 4 and 8192; the others are tried because trying is cheap.
  const double count = static_cast<double>(factors.size());
  for (double high : {4.0, 2.0, 8.0, 16.0, 32.0}) {
    scaling.high_freq_factor = high;
    for (std::int64_t original = 1024; original <= 1 << 20; original *= 2) {
      scaling.original_max_position = original;
      bool equal = true;
      for (std::size_t i = 0; i < factors.size() && equal; ++i) {
        const double frequency = std::pow(theta, -static_cast<double>(i) / count);
        const double expected = llama3_factor(frequency, scaling);
        equal = std::fabs(expected - static_cast<double>(factors[i])) <= 1e-4 * expected;
      }
      if (equal) return scaling;
    }
  }
  return unsupported(where +
                     ": these frequency factors are not those of Llama 3.1's rope scaling; "
                     "use the model's Hugging Face folder instead");
}

Result<ModelConfig> config_from_gguf(const GgufFile& file) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const FamilyTraits* traits, find_family(file.metadata));
  const Fields fields(file.metadata, traits->gguf_name);
  ModelConfig config;
  config.family = traits->family;
  config.architecture = traits->architecture;
  LIQUIDGEMM_RETURN_IF_ERROR(refuse_unsupported_maths(file.metadata, fields));
  LIQUIDGEMM_RETURN_IF_ERROR(read_sizes(file, fields, config));
  LIQUIDGEMM_RETURN_IF_ERROR(
      fields.number("attention.layer_norm_rms_epsilon", 1e-20, 1.0, config.rms_norm_eps));
  LIQUIDGEMM_RETURN_IF_ERROR(read_rope(file, fields, config));
  find_biases(file, config);
  LIQUIDGEMM_RETURN_IF_ERROR(check_config(config, file.metadata.where()));
  return config;
}

}  // namespace liquidgemm
