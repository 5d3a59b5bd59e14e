// What the user calls a model, and where the program keeps models it has quantized itself.
#pragma once

#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

// MODEL as a path: a folder, a .gguf file, or "org/name" in the local Hugging Face cache (never
// downloaded: the error prints the command that would).
Result<std::string> resolve_model(const std::string& model);

// $XDG_CACHE_HOME/liquidgemm, or ~/.cache/liquidgemm.
std::string cache_folder();

// Where the quantized form of an unquantised model is kept: a name that changes with the model's
// files (names, sizes, times), the settings and the program's version.
Result<std::string> quantized_cache_path(const std::string& model_path,
                                         const std::string& settings);

}  // namespace liquidgemm::cli
