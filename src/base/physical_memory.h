// How much memory this process may use.
#pragma once

#include <string>

namespace liquidgemm {

// The machine's memory, or what the control group leaves of it where that is less: a container's
// limit.
double physical_memory_bytes();

// The limit in the text of a control group's file: a number of bytes. Negative: "max", no limit, or
// not such a text.
double memory_limit_bytes(const std::string& text);

}  // namespace liquidgemm
