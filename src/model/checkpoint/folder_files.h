// Files of a model folder, opened by plain names only.
//
// A name that comes from a file of the folder (a shard in model.safetensors.index.json) must be a
// plain file name: no separators, no "..". Symbolic links need a rule too, because Hugging Face's
// cache is made of them: models--org--name/snapshots/<revision>/config.json points to
// ../../blobs/<hash>. So a link may lead to a file inside the folder itself or inside that "blobs"
// folder, and nowhere else: an unpacked archive cannot make this program read (and copy into a
// quantized model) some other file of the machine.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "liquidgemm/status.h"

namespace liquidgemm {

class ModelFolder {
 public:
  // Not found or not a folder: an error.
  static Result<ModelFolder> open(const std::string& path);

  const std::string& path() const { return path_; }
  bool has(const std::string& name) const;

  // The path to open for `name`: an error when the name is not plain, the file is missing, or a
  // link leaves the folder.
  Result<std::string> resolve(std::string_view name) const;

  // The text of a file; nothing when there is none. Larger than max_bytes is an error.
  Result<std::optional<std::string>> read_optional(const std::string& name,
                                                   std::size_t max_bytes) const;

 private:
  std::string path_;
  std::string real_;   // without links
  std::string blobs_;  // Hugging Face's cache only; empty elsewhere
};

}  // namespace liquidgemm
