#include "model/checkpoint/safetensors_source.h"

#include <filesystem>
#include <map>
#include <vector>

#include "base/json.h"
#include "base/status_macros.h"
#include "model/checkpoint/printable.h"
#include "model/checkpoint/safetensors.h"

namespace liquidgemm {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::size_t kMostShards = 4096;

// Tensor name to shard, as the index says.
using WeightMap = std::map<std::string, std::string, std::less<>>;

Result<WeightMap> parse_index(const std::string& text, const std::string& where) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(json::Value value,
                              json::parse(text, where, {kMaxSafetensorsHeader, 16}));
  const json::Object* object = value.if_object();
  if (object == nullptr) return corrupt(where + ": expected a JSON object");
  const json::Reader reader(*object, where);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* entries, reader.required_object("weight_map"));
  WeightMap map;
  for (const auto& [tensor, file] : *entries) {
    const auto* name = file.if_string();
    if (name == nullptr) {
      return corrupt(where + ": field \"weight_map." + escaped(tensor) +
                     "\": expected a file name");
    }
    const std::string shard(name->data(), name->size());
    if (!shard.ends_with(".safetensors")) {
      return corrupt(where + ": field \"weight_map." + escaped(tensor) + "\": " + printable(shard) +
                     " is not a .safetensors file");
    }
    map.emplace(std::string(tensor), shard);
  }
  if (map.empty()) return corrupt(where + ": field \"weight_map\": it lists no tensors");
  return map;
}

// Adds one file's tensors; `expected` is nullptr without an index.
Status add_shard(const ModelFolder& folder, const std::string& name, const WeightMap* expected,
                 StoredTensors& source) {
  Result<std::string> resolved = folder.resolve(name);
  if (!resolved.ok() && expected != nullptr) {
    return resolved.status().with_context(std::string(kIndex) + ": field \"weight_map\"");
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string path, std::move(resolved));
  LIQUIDGEMM_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<StoredTensor> tensors,
                              parse_safetensors(file.bytes(), path));
  const std::size_t number = source.add_file(std::move(file));
  for (StoredTensor& tensor : tensors) {
    if (expected != nullptr) {
      const auto found = expected->find(tensor.info.name);
      if (found == expected->end() || found->second != name) {
        return corrupt(path + ": tensor " + printable(tensor.info.name) + " is not where " +
                       kIndex + " says (" +
                       (found == expected->end() ? "not listed" : escaped(found->second)) +
                       "); are the files from one and the same save?");
      }
    }
    source.add(number, std::move(tensor));
  }
  return ok_status();
}

Status add_shards(const ModelFolder& folder, const std::string& index_text, StoredTensors& source) {
  const std::string where = folder.path() + "/" + kIndex;
  LIQUIDGEMM_ASSIGN_OR_RETURN(WeightMap map, parse_index(index_text, where));
  std::map<std::string, std::string> shards;  // shard to one of its tensors, for messages
  for (const auto& [tensor, shard] : map) shards.emplace(shard, tensor);
  if (shards.size() > kMostShards) {
    return resource_exhausted(where + ": " + std::to_string(shards.size()) +
                              " shards, at most 4096 are accepted");
  }
  for (const auto& [shard, tensor] : shards) {
    const Status status = add_shard(folder, shard, &map, source);
    if (status.code() == StatusCode::kNotFound) {
      return status.with_context(std::string(kIndex) + " places tensor " + printable(tensor) +
                                 " in a shard that is missing");
    }
    LIQUIDGEMM_RETURN_IF_ERROR(status);
  }
  LIQUIDGEMM_RETURN_IF_ERROR(source.index());
  for (const auto& [tensor, shard] : map) {
    if (source.find(tensor) == nullptr) {
      return corrupt(where + ": tensor " + printable(tensor) + " is not in " + escaped(shard) +
                     ", where the index places it");
    }
  }
  return ok_status();
}

// No safetensors: says what is there instead, and what to do.
Status no_weights(const ModelFolder& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path(), error)) {
    const std::string extension = entry.path().extension().string();
    const std::string name = escaped(entry.path().filename().string());
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
      return unsupported(folder.path() + ": the weights are in a pickle (" + name +
                         "), which can run code when it is read and is refused; convert it to "
                         "safetensors (save_pretrained(..., safe_serialization=True))");
    }
    if (extension == ".gguf") {
      return not_found(folder.path() + ": no " + kSingle +
                       " here; pass the file itself: " + folder.path() + "/" + name);
    }
  }
  return not_found(folder.path() + ": neither " + kSingle + " nor " + kIndex +
                   " is here; expected a Hugging Face model folder");
}

}  // namespace

Result<std::unique_ptr<StoredTensors>> open_safetensors_folder(const ModelFolder& folder) {
  auto source = std::make_unique<StoredTensors>(folder.path());
  if (folder.has(kSingle)) {
    LIQUIDGEMM_RETURN_IF_ERROR(add_shard(folder, kSingle, nullptr, *source));
    LIQUIDGEMM_RETURN_IF_ERROR(source->index());
    return source;
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto index, folder.read_optional(kIndex, kMaxSafetensorsHeader));
  if (!index) return no_weights(folder);
  LIQUIDGEMM_RETURN_IF_ERROR(add_shards(folder, *index, *source));
  return source;
}

Result<std::unique_ptr<StoredTensors>> open_safetensors_folder(const std::string& path) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(ModelFolder folder, ModelFolder::open(path));
  return open_safetensors_folder(folder);
}

}  // namespace liquidgemm
