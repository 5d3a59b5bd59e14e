#include "model/quantize_files.h"

#include <algorithm>
#include <array>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "model/checkpoint/folder_files.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::size_t kMaxConfig = 16u << 20;
constexpr std::size_t kMaxCopied = 256u << 20;

// Copied as they came. Licences travel with the weights they cover.
constexpr std::array<std::string_view, 16> kCopied = {"tokenizer.json",
                                                      "tokenizer_config.json",
                                                      "special_tokens_map.json",
                                                      "added_tokens.json",
                                                      "generation_config.json",
                                                      "chat_template.jinja",
                                                      "vocab.json",
                                                      "merges.txt",
                                                      "tokenizer.model",
                                                      "LICENSE",
                                                      "LICENSE.txt",
                                                      "LICENSE.md",
                                                      "NOTICE",
                                                      "Notice.txt",
                                                      "NOTICE.txt",
                                                      "USE_POLICY.md"};

bool is_shard_name(std::string_view name) {
  return name == "model.safetensors" ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

Status write_index(const QuantizePlan& plan, const QuantizeFolder& folder) {
  json::Object map;
  std::int64_t total = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const TensorInfo& tensor : shard.tensors) {
      map[tensor.name] = shard.file;
      total += tensor.bytes;
    }
  }
  const json::Object index{{"metadata", json::Object{{"total_size", total}}},
                           {"weight_map", std::move(map)}};
  return write_file_atomically(folder.file(kIndex), json::dump_pretty(index));
}

Status copy_hugging_face_files(const ModelSource& source, const QuantizePlan& plan,
                               const QuantizeFolder& folder) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const ModelFolder original, ModelFolder::open(source.path));
  const std::string where = source.path + "/config.json";
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto text, original.read_optional("config.json", kMaxConfig));
  if (!text) return not_found(where + ": it was there a moment ago");
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value config, json::parse(*text, where));
  if (!config.is_object()) return corrupt(where + ": expected a JSON object");
  config.get_object()["quantization_config"] = quantization_to_json(plan.quantization);
  if (source.config.tied_embeddings && !plan.tied_embeddings) {
    config.get_object()["tie_word_embeddings"] = false;
  }
  LIQUIDGEMM_RETURN_IF_ERROR(
      write_file_atomically(folder.file("config.json"), json::dump_pretty(config)));
  for (const std::string_view name : kCopied) {
    const std::string file(name);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto content, original.read_optional(file, kMaxCopied));
    if (!content) continue;
    LIQUIDGEMM_RETURN_IF_ERROR(write_file_atomically(folder.file(file), *content));
  }
  return ok_status();
}

json::Object tokenizer_config(const ModelSource& source) {
  json::Object config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"clean_up_tokenization_spaces", false},
                      {"add_bos_token", !source.tokenizer.prefix_tokens.empty()},
                      {"model_max_length", source.config.max_position}};
  if (!source.bos_token.empty()) config["bos_token"] = source.bos_token;
  if (!source.eos_token.empty()) config["eos_token"] = source.eos_token;
  if (!source.chat_template.empty()) config["chat_template"] = source.chat_template;
  return config;
}

json::Object generation_config(const ModelSource& source) {
  json::Object config;
  if (source.config.bos_token) config["bos_token_id"] = *source.config.bos_token;
  if (!source.config.eos_tokens.empty()) {
    json::Array ids;
    for (const std::int64_t id : source.config.eos_tokens) ids.push_back(id);
    config["eos_token_id"] = ids.size() == 1 ? ids.front() : json::Value(std::move(ids));
  }
  const GenerationDefaults& defaults = source.generation;
  if (defaults.temperature) config["temperature"] = *defaults.temperature;
  if (defaults.top_p) config["top_p"] = *defaults.top_p;
  if (defaults.top_k) config["top_k"] = *defaults.top_k;
  if (defaults.min_p) config["min_p"] = *defaults.min_p;
  if (defaults.repetition_penalty) config["repetition_penalty"] = *defaults.repetition_penalty;
  return config;
}

Status make_files(const ModelSource& source, const QuantizePlan& plan,
                  const QuantizeFolder& folder) {
  ModelConfig config = source.config;
  config.quantization = plan.quantization;
  config.tied_embeddings = plan.tied_embeddings;
  LIQUIDGEMM_RETURN_IF_ERROR(
      write_file_atomically(folder.file("config.json"), config_to_json(config)));
  LIQUIDGEMM_RETURN_IF_ERROR(
      write_file_atomically(folder.file("tokenizer.json"), tokenizer_to_json(source.tokenizer)));
  LIQUIDGEMM_RETURN_IF_ERROR(write_file_atomically(folder.file("tokenizer_config.json"),
                                                   json::dump_pretty(tokenizer_config(source))));
  return write_file_atomically(folder.file("generation_config.json"),
                               json::dump_pretty(generation_config(source)));
}

}  // namespace

bool is_checkpoint_file(std::string_view name) {
  return name == "config.json" || name == kIndex || is_shard_name(name) ||
         std::find(kCopied.begin(), kCopied.end(), name) != kCopied.end();
}

Status write_small_files(const ModelSource& source, const QuantizePlan& plan,
                         const QuantizeFolder& folder) {
  if (plan.shards.size() > 1) LIQUIDGEMM_RETURN_IF_ERROR(write_index(plan, folder));
  return source.format == ModelSource::Format::kHuggingFace
             ? copy_hugging_face_files(source, plan, folder)
             : make_files(source, plan, folder);
}

}  // namespace liquidgemm
