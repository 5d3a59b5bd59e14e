// The values of the keyword "format" that answers are kept to.
#pragma once

#include <string_view>

namespace liquidgemm {

// A regular expression that all of its matches conform to; empty: not a known format. It may leave
// out rare forms, such as the 29th of February.
std::string_view string_format_regex(std::string_view format);

}  // namespace liquidgemm
