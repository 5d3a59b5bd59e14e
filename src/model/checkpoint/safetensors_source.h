// The weights of a Hugging Face folder: model.safetensors, or the shards that
// model.safetensors.index.json lists.
#pragma once

#include <memory>
#include <string>

#include "liquidgemm/status.h"
#include "model/checkpoint/folder_files.h"
#include "model/checkpoint/stored_tensors.h"

namespace liquidgemm {

// Opens every shard and checks every header. With an index, each tensor must lie in the shard that
// the index names, and every tensor of a shard must be in the index: anything else means that the
// files come from different saves.
Result<std::unique_ptr<StoredTensors>> open_safetensors_folder(const ModelFolder& folder);
Result<std::unique_ptr<StoredTensors>> open_safetensors_folder(const std::string& path);

}  // namespace liquidgemm
