#include "model/checkpoint/gguf_source.h"

#include "base/status_macros.h"
#include "model/checkpoint/block_formats.h"
#include "model/checkpoint/printable.h"
#include "model/checkpoint/quantized_tensors.h"

namespace liquidgemm {
namespace {

struct NamePair {
  std::string_view gguf;
  std::string_view hugging_face;
};
constexpr NamePair kTopNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};
constexpr NamePair kBlockNames[] = {
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

constexpr const char* kRopeFactors = "rope_freqs.weight";

template <std::size_t N>
std::string_view lookup(const NamePair (&names)[N], std::string_view gguf) {
  for (const NamePair& name : names) {
    if (name.gguf == gguf) return name.hugging_face;
  }
  return {};
}

// llama.cpp's converter reorders q and k of the llama architecture only; qwen2 and qwen3 turn
// (i, i + head_dim / 2) in both worlds.
RowOrder row_order(const ModelConfig& config, std::string_view name) {
  const bool reordered = name.ends_with(".attn_q.weight") || name.ends_with(".attn_q.bias") ||
                         name.ends_with(".attn_k.weight") || name.ends_with(".attn_k.bias");
  return {config.family == ModelFamily::kLlama && reordered ? config.head_dim : 0};
}

Status read_rope_factors(const GgufFile& file, std::span<const std::byte> bytes,
                         ModelConfig& config) {
  for (const StoredTensor& tensor : file.tensors) {
    if (tensor.info.name != kRopeFactors) continue;
    const std::string where = file.metadata.where() + ": tensor \"" + kRopeFactors + "\"";
    if (tensor.info.dtype != DType::kF32 || tensor.info.shape != Shape{config.head_dim / 2}) {
      return corrupt(where + ": expected F32 " + shape_string({config.head_dim / 2}) + ", found " +
                     std::string(dtype_name(tensor.info.dtype)) + " " +
                     shape_string(tensor.info.shape));
    }
    std::vector<float> factors(static_cast<std::size_t>(config.head_dim / 2));
    convert_to_float(DType::kF32, bytes.data() + tensor.begin, config.head_dim / 2, factors.data());
    LIQUIDGEMM_ASSIGN_OR_RETURN(RopeScaling scaling,
                                rope_scaling_from_factors(factors, config.rope_theta, where));
    if (scaling.kind != RopeScaling::Kind::kNone) config.rope_scaling = scaling;
  }
  return ok_status();
}

// Moves the tensors into `source` under Hugging Face's names.
Status rename_tensors(std::vector<StoredTensor> tensors, const ModelConfig& config,
                      std::size_t file, StoredTensors& source) {
  for (StoredTensor& tensor : tensors) {
    const std::string gguf_name = std::move(tensor.info.name);
    if (gguf_name == kRopeFactors) continue;
    tensor.info.name = hugging_face_name(gguf_name);
    if (tensor.info.name.empty()) {
      return unsupported(source.where() + ": tensor " + printable(gguf_name) +
                         " has no place in a llama, qwen2 or qwen3 model");
    }
    const RowOrder order = row_order(config, gguf_name);
    // Whole heads only, so that every row has a stored row.
    if (order.interleaved_head_dim != 0 &&
        (tensor.info.shape.size() > 2 ||
         tensor.info.shape.front() % order.interleaved_head_dim != 0)) {
      return corrupt(source.where() + ": tensor " + printable(gguf_name) + " of shape " +
                     shape_string(tensor.info.shape) + " does not hold whole heads of " +
                     std::to_string(config.head_dim));
    }
    source.add(file, std::move(tensor), order);
  }
  return source.index();
}

}  // namespace

std::string hugging_face_name(std::string_view gguf_name) {
  const std::size_t last_dot = gguf_name.rfind('.');
  if (last_dot == std::string_view::npos) return {};
  const std::string_view suffix = gguf_name.substr(last_dot);  // with its dot
  if (suffix != ".weight" && suffix != ".bias") return {};
  std::string_view stem = gguf_name.substr(0, last_dot);
  if (!stem.starts_with("blk.")) {
    const std::string_view name = lookup(kTopNames, stem);
    return name.empty() ? std::string() : std::string(name) + std::string(suffix);
  }
  stem.remove_prefix(4);
  const std::size_t dot = stem.find('.');
  if (dot == 0 || dot == std::string_view::npos) return {};
  const std::string_view layer = stem.substr(0, dot);
  if (layer.find_first_not_of("0123456789") != std::string_view::npos) return {};
  const std::string_view name = lookup(kBlockNames, stem.substr(dot + 1));
  if (name.empty()) return {};
  return "model.layers." + std::string(layer) + "." + std::string(name) + std::string(suffix);
}

Result<ModelSource> open_gguf_file(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::open(path));
  const std::span<const std::byte> bytes = mapped.bytes();
  LIQUIDGEMM_ASSIGN_OR_RETURN(GgufFile file, parse_gguf(bytes, path));

  ModelSource source;
  source.format = ModelSource::Format::kGguf;
  source.path = path;
  source.stored_bytes = static_cast<std::int64_t>(bytes.size());
  LIQUIDGEMM_ASSIGN_OR_RETURN(source.config, config_from_gguf(file));
  LIQUIDGEMM_RETURN_IF_ERROR(read_rope_factors(file, bytes, source.config));
  LIQUIDGEMM_ASSIGN_OR_RETURN(GgufTokenizer tokenizer,
                              tokenizer_from_gguf(file.metadata, source.config));
  source.tokenizer = std::move(tokenizer.spec);
  source.chat_template = std::move(tokenizer.chat_template);
  source.bos_token = std::move(tokenizer.bos_token);
  source.eos_token = std::move(tokenizer.eos_token);

  auto tensors = std::make_unique<StoredTensors>(path);
  const std::size_t number = tensors->add_file(std::move(mapped));  // the mapping does not move
  LIQUIDGEMM_RETURN_IF_ERROR(
      rename_tensors(std::move(file.tensors), source.config, number, *tensors));
  LIQUIDGEMM_RETURN_IF_ERROR(check_float_layout(source.config, *tensors));
  source.tensors = std::move(tensors);
  return source;
}

}  // namespace liquidgemm
