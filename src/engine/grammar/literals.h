// One of many texts, as a grammar.
#pragma once

#include <string>
#include <vector>

#include "engine/grammar/grammar_text.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

// An expression for one of `texts` (at least one; valid UTF-8 without zero bytes). Common
// beginnings are shared, so that the cost is that of the prefix tree.
Result<std::string> one_of(std::vector<std::string> texts, GrammarText& grammar);

}  // namespace liquidgemm
