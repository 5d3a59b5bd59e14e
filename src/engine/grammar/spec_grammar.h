// The text of the grammar that a specification asks for, after everything about it was checked.
#pragma once

#include <string>

#include "engine/grammar.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

Result<std::string> spec_grammar(const GrammarSpec& spec, const GrammarLimits& limits);

}  // namespace liquidgemm
