// Whether a TokenizerSpec is sound, and its merges as ids.
#pragma once

#include <string>
#include <vector>

#include "liquidgemm/status.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/text_index.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

struct CheckedSpec {
  TextIndex vocabulary;       // texts as the file stores them; views into the spec
  std::vector<Merge> merges;  // by rank
  std::size_t id_limit = 0;   // one more than the largest id
};

Result<CheckedSpec> check_spec(const TokenizerSpec& spec, const std::string& where);

// A token's text for a message: quoted, cut to a readable length.
std::string in_quotes(std::string_view text);

}  // namespace liquidgemm
