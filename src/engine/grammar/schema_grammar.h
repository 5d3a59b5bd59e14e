// JSON Schema as a grammar whose answers all conform to it.
//
// The grammar may leave out answers that conform too (properties come in the schema's order, an
// object has no properties that the schema does not name unless it says what they are), but it
// never lets one through that does not. What cannot be kept to that way is refused by name
// (docs/structured-output.md).
#pragma once

#include <string>
#include <string_view>

#include "engine/grammar.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

Result<std::string> schema_grammar(std::string_view schema, const GrammarLimits& limits);

}  // namespace liquidgemm
