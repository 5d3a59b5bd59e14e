// Token texts to ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

// Seeded anew in each process: with a known hash, a vocabulary could be made of texts that all
// collide, and reading it would take hours.
struct SeededTextHash {
  std::size_t operator()(std::string_view text) const;
};

// The views must outlive the index.
using TextIndex = std::unordered_map<std::string_view, TokenId, SeededTextHash>;

}  // namespace liquidgemm
