// Shapes of well-known models, for measuring speed with random weights.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint/config.h"

namespace liquidgemm {

// "smollm2-135m", "1b", ...: from small to large.
std::vector<std::string> preset_names();
// The listed name of one that has two ("llama3-8b" of "llama-3-8b"); any other as it is.
std::string_view preset_of_alias(std::string_view name);
// Takes both. Not found names the ones there are.
Result<ModelConfig> preset_config(std::string_view name);

}  // namespace liquidgemm
