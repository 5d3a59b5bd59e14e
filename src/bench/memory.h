// Whether what is to be measured fits into this machine's memory.
#pragma once

#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// Ok up to four fifths of the memory: what would be swapped, or end the process, is refused before
// anything is allocated. The message is `what`, which ends in "take ", the sizes, and `advice`.
Status check_memory(double bytes, const std::string& what, const std::string& advice);

}  // namespace liquidgemm::bench
