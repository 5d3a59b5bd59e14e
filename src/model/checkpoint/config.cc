#include "model/checkpoint/config.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"
#include "model/checkpoint/config_fields.h"
#include "model/checkpoint/printable.h"

namespace liquidgemm {
namespace {

constexpr FamilyTraits kFamilies[] = {
    {ModelFamily::kLlama, "LlamaForCausalLM", "llama", "llama", 2048},
    {ModelFamily::kQwen2, "Qwen2ForCausalLM", "qwen2", "qwen2", 32768},
    {ModelFamily::kQwen3, "Qwen3ForCausalLM", "qwen3", "qwen3", 32768},
};

// "architectures" names the family; a config without it (a bare text model) has "model_type".
Result<const FamilyTraits*> find_family(const json::Reader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* names, reader.optional_array("architectures"));
  if (names != nullptr && !names->empty()) {
    const auto* name = names->front().if_string();
    if (name == nullptr || names->size() != 1) {
      return corrupt(reader.field("architectures") + ": expected a list with one name");
    }
    const std::string_view text(name->data(), name->size());
    for (const FamilyTraits& traits : kFamilies) {
      if (text == traits.architecture) return &traits;
    }
    return unsupported(reader.field("architectures") + ": " + printable(text) +
                       " is not supported; supported are " + supported_architectures());
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto type, reader.optional_string("model_type"));
  if (!type) {
    return corrupt(reader.field("architectures") + ": missing; expected one of " +
                   supported_architectures());
  }
  for (const FamilyTraits& traits : kFamilies) {
    if (*type == traits.model_type) return &traits;
  }
  return unsupported(reader.field("model_type") + ": " + printable(*type) +
                     " is not supported; supported are llama, qwen2, qwen3");
}

// An optional size with a default, in [1, high].
Status read_size(const json::Reader& reader, std::string_view name, std::int64_t high,
                 std::int64_t missing, std::int64_t& out) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, reader.optional_int(name, 1, high));
  out = value.value_or(missing);
  return ok_status();
}

Status read_flag(const json::Reader& reader, std::string_view name, bool& out) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto value, reader.optional_bool(name));
  if (value) out = *value;
  return ok_status();
}

Status read_sizes(const json::Reader& reader, const FamilyTraits& traits, ModelConfig& config) {
  using L = SizeLimits;
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.hidden_size, reader.required_int("hidden_size", 1, L::kWidth));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.intermediate_size,
                              reader.required_int("intermediate_size", 1, L::kWidth));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.layers,
                              reader.required_int("num_hidden_layers", 1, L::kLayers));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.heads,
                              reader.required_int("num_attention_heads", 1, L::kHeads));
  LIQUIDGEMM_RETURN_IF_ERROR(
      read_size(reader, "num_key_value_heads", L::kHeads, config.heads, config.kv_heads));
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.vocab_size,
                              reader.required_int("vocab_size", 1, L::kVocabulary));
  LIQUIDGEMM_RETURN_IF_ERROR(read_size(reader, "max_position_embeddings", L::kPosition,
                                       traits.default_position, config.max_position));
  // Qwen3's own default is 128 whatever the width; the others divide the width among the heads.
  const bool silent = !reader.object().contains("head_dim");
  std::int64_t head_dim = config.hidden_size / config.heads;
  if (config.family == ModelFamily::kQwen3 && silent) head_dim = 128;
  LIQUIDGEMM_RETURN_IF_ERROR(read_size(reader, "head_dim", L::kHeadDim, head_dim, config.head_dim));
  const bool divided = silent && config.family != ModelFamily::kQwen3;
  if (divided && config.hidden_size % config.heads != 0) {
    return corrupt(reader.field("hidden_size") + ": " + std::to_string(config.hidden_size) +
                   " is not a multiple of num_attention_heads (" + std::to_string(config.heads) +
                   "), and there is no head_dim");
  }
  return ok_status();
}

Status read_biases(const json::Reader& reader, ModelConfig& config) {
  switch (config.family) {
    case ModelFamily::kLlama:
      LIQUIDGEMM_RETURN_IF_ERROR(read_flag(reader, "attention_bias", config.qkv_bias));
      config.output_bias = config.qkv_bias;
      return read_flag(reader, "mlp_bias", config.mlp_bias);
    case ModelFamily::kQwen2: config.qkv_bias = true; return ok_status();
    case ModelFamily::kQwen3:
      config.qk_norm = true;
      LIQUIDGEMM_RETURN_IF_ERROR(read_flag(reader, "attention_bias", config.qkv_bias));
      config.output_bias = config.qkv_bias;
      return ok_status();
  }
  return internal_error("read_biases: unknown family");
}

// Fields that change the maths in a way the graph does not have. Each is refused by name: a model
// that loads and answers wrongly is worse than one that does not load.
Status refuse_unsupported_maths(const json::Reader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto activation, reader.optional_string("hidden_act"));
  if (activation && *activation != "silu" && *activation != "swish") {
    return unsupported(reader.field("hidden_act") + ": " + printable(*activation) +
                       " is not supported; expected \"silu\"");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto rotary,
                              reader.optional_number("partial_rotary_factor", 0.0, 1.0));
  if (rotary && *rotary != 1.0) {
    return unsupported(reader.field("partial_rotary_factor") +
                       ": rotating only a part of each head is not supported; expected 1.0");
  }
  bool sliding = false;
  LIQUIDGEMM_RETURN_IF_ERROR(read_flag(reader, "use_sliding_window", sliding));
  if (sliding) {
    return unsupported(reader.field("use_sliding_window") +
                       ": sliding-window attention is not supported. If your prompts stay below "
                       "the window, set it to false: the results are the same");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* types, reader.optional_array("layer_types"));
  if (types != nullptr) {
    for (const json::Value& type : *types) {
      const auto* text = type.if_string();
      if (text == nullptr || *text != "full_attention") {
        return unsupported(reader.field("layer_types") +
                           ": only \"full_attention\" layers are supported");
      }
    }
  }
  return ok_status();
}

Status parse_into(const json::Object& object, const std::string& where, ModelConfig& config) {
  const json::Reader reader(object, where);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const FamilyTraits* traits, find_family(reader));
  config.family = traits->family;
  config.architecture = traits->architecture;
  LIQUIDGEMM_RETURN_IF_ERROR(read_sizes(reader, *traits, config));
  LIQUIDGEMM_RETURN_IF_ERROR(read_biases(reader, config));
  LIQUIDGEMM_RETURN_IF_ERROR(refuse_unsupported_maths(reader));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto epsilon, reader.optional_number("rms_norm_eps", 1e-20, 1.0));
  if (epsilon) config.rms_norm_eps = *epsilon;
  LIQUIDGEMM_RETURN_IF_ERROR(read_flag(reader, "tie_word_embeddings", config.tied_embeddings));
  LIQUIDGEMM_RETURN_IF_ERROR(parse_rope(reader, where, config));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto bos, parse_token_ids(reader, "bos_token_id", config.vocab_size));
  if (!bos.empty()) config.bos_token = bos.front();
  LIQUIDGEMM_ASSIGN_OR_RETURN(config.eos_tokens,
                              parse_token_ids(reader, "eos_token_id", config.vocab_size));
  LIQUIDGEMM_RETURN_IF_ERROR(check_config(config, where));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* quantization,
                              reader.optional_object("quantization_config"));
  if (quantization != nullptr) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(config.quantization,
                                parse_quantization(*quantization, config, where));
  }
  return ok_status();
}

}  // namespace

std::span<const FamilyTraits> supported_families() { return kFamilies; }

const FamilyTraits& family_traits(ModelFamily family) {
  for (const FamilyTraits& traits : kFamilies) {
    if (traits.family == family) return traits;
  }
  return kFamilies[0];  // every enumerator has a row
}

std::string supported_architectures() {
  std::string text;
  for (const FamilyTraits& traits : kFamilies) {
    if (!text.empty()) text += ", ";
    text += traits.architecture;
  }
  return text;
}

Status check_config(const ModelConfig& config, const std::string& where) {
  const auto wrong = [&](const std::string& field, const std::string& message) {
    return corrupt(where + ": field \"" + field + "\": " + message);
  };
  if (config.heads % config.kv_heads != 0) {
    return wrong("num_key_value_heads", std::to_string(config.heads) +
                                            " attention heads are not a multiple of " +
                                            std::to_string(config.kv_heads) + " key/value heads");
  }
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    return wrong("head_dim", "rotary embedding needs an even head size, found " +
                                 std::to_string(config.head_dim));
  }
  if (config.heads * config.head_dim > SizeLimits::kWidth) {
    return wrong("head_dim", std::to_string(config.heads) + " heads of " +
                                 std::to_string(config.head_dim) + " are wider than the limit of " +
                                 std::to_string(SizeLimits::kWidth));
  }
  const auto in_vocabulary = [&](std::int64_t id) { return id >= 0 && id < config.vocab_size; };
  const std::string expected = ", expected 0 to " + std::to_string(config.vocab_size - 1);
  if (config.bos_token && !in_vocabulary(*config.bos_token)) {
    return wrong("bos_token_id", "found " + std::to_string(*config.bos_token) + expected);
  }
  for (std::int64_t id : config.eos_tokens) {
    if (!in_vocabulary(id)) {
      return wrong("eos_token_id", "found " + std::to_string(id) + expected);
    }
  }
  return ok_status();
}

Result<std::vector<std::int64_t>> parse_token_ids(const json::Reader& reader, std::string_view name,
                                                  std::int64_t vocab_size) {
  std::vector<std::int64_t> ids;
  const json::Value* value = reader.object().if_contains(name);
  if (value == nullptr || value->is_null()) return ids;
  if (!value->is_array()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::int64_t id, reader.required_int(name, 0, vocab_size - 1));
    ids.push_back(id);
    return ids;
  }
  constexpr std::size_t kMostIds = 256;
  const json::Array& list = *value->if_array();
  if (list.size() > kMostIds) {
    return corrupt(reader.field(name) + ": " + std::to_string(list.size()) +
                   " ids, at most 256 are accepted");
  }
  for (const json::Value& item : list) {
    const std::int64_t* id = item.if_int64();
    if (id == nullptr || *id < 0 || *id >= vocab_size) {
      return corrupt(reader.field(name) + ": expected token ids from 0 to " +
                     std::to_string(vocab_size - 1) + ", found " + printable(json::dump(item)));
    }
    merge_token_ids(ids, {*id});
  }
  return ids;
}

void merge_token_ids(std::vector<std::int64_t>& into, const std::vector<std::int64_t>& more) {
  for (std::int64_t id : more) {
    if (std::find(into.begin(), into.end(), id) == into.end()) into.push_back(id);
  }
}

Result<ModelConfig> parse_config(std::string_view text, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value value, json::parse(text, where, {16u << 20, 32}));
  const json::Object* object = value.if_object();
  if (object == nullptr) return corrupt(where + ": expected a JSON object");
  ModelConfig config;
  LIQUIDGEMM_RETURN_IF_ERROR(parse_into(*object, where, config));
  return config;
}

std::vector<LinearName> layer_linears(const ModelConfig& config, std::int64_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t q = config.heads * config.head_dim;
  const std::int64_t kv = config.kv_heads * config.head_dim;
  const std::int64_t wide = config.intermediate_size;
  return {
      {prefix + "self_attn.q_proj", q, hidden, config.qkv_bias},
      {prefix + "self_attn.k_proj", kv, hidden, config.qkv_bias},
      {prefix + "self_attn.v_proj", kv, hidden, config.qkv_bias},
      {prefix + "self_attn.o_proj", hidden, q, config.output_bias},
      {prefix + "mlp.gate_proj", wide, hidden, config.mlp_bias},
      {prefix + "mlp.up_proj", wide, hidden, config.mlp_bias},
      {prefix + "mlp.down_proj", hidden, wide, config.mlp_bias},
  };
}

}  // namespace liquidgemm
