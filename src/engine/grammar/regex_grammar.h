// Regular expressions as grammar expressions.
//
// The expression matches the whole answer (or the whole string of a JSON schema's `pattern`): "^"
// at the beginning and "$" at the end say nothing more. "." and the negated classes match the
// characters that people write, no control characters but tab and line ends ("." no line ends).
#pragma once

#include <string>
#include <string_view>

#include "engine/grammar/grammar_text.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

enum class RegexInside { kText, kJsonString };  // inside a JSON string characters are escaped

// Messages read "at position 7 of the expression: ...". `max_depth` bounds nested groups.
Result<std::string> regex_expression(std::string_view regex, RegexInside inside,
                                     std::size_t max_depth, GrammarText& grammar);

}  // namespace liquidgemm
