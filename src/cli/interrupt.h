// Ctrl-C and SIGTERM as a flag that long work looks at.
#pragma once

#include <atomic>

namespace liquidgemm::cli {

// Installs the handler on first use. The signal interrupts a blocking read (no SA_RESTART).
std::atomic<bool>& interrupt_flag();

}  // namespace liquidgemm::cli
