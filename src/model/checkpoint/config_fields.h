// Shared by the readers of config.json, generation_config.json and GGUF metadata.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/checkpoint/config.h"

namespace liquidgemm {

// What distinguishes one family's config.json from another's. A new family is a new row of the
// table in config.cc and a case in the functions that ask for `family`.
struct FamilyTraits {
  ModelFamily family;
  const char* architecture;       // config.json "architectures"
  const char* model_type;         // config.json "model_type"
  const char* gguf_name;          // GGUF general.architecture
  std::int64_t default_position;  // max_position_embeddings where the file is silent
};
std::span<const FamilyTraits> supported_families();
const FamilyTraits& family_traits(ModelFamily family);
std::string supported_architectures();  // "LlamaForCausalLM, ..." for messages

// Limits of every size in a config, whatever the file format. They keep all products of sizes far
// from overflow and refuse numbers that no published model comes near.
struct SizeLimits {
  static constexpr std::int64_t kWidth = 65536;  // hidden, intermediate, heads * head_dim
  static constexpr std::int64_t kLayers = 1024;
  static constexpr std::int64_t kHeads = 4096;
  static constexpr std::int64_t kHeadDim = 1024;
  static constexpr std::int64_t kVocabulary = 1 << 22;
  static constexpr std::int64_t kPosition = std::int64_t{1} << 27;
};

// The relations between sizes: heads a multiple of kv_heads, head_dim even, widths in their limit,
// token ids below the vocabulary. `where` names the file.
Status check_config(const ModelConfig& config, const std::string& where);

// A token id or a list of them, as "eos_token_id" is written; missing or null is an empty list.
Result<std::vector<std::int64_t>> parse_token_ids(const json::Reader& reader, std::string_view name,
                                                  std::int64_t vocab_size);

// Adds the ids that `into` does not hold yet, keeping the order.
void merge_token_ids(std::vector<std::int64_t>& into, const std::vector<std::int64_t>& more);

// "rope_scaling" or transformers 5's "rope_parameters", read into rope_theta and rope_scaling.
Status parse_rope(const json::Reader& reader, const std::string& where, ModelConfig& config);

// The value of "quantization_config". `config` must hold the sizes already.
Result<QuantizationConfig> parse_quantization(const json::Object& object, const ModelConfig& config,
                                              const std::string& where);

}  // namespace liquidgemm
