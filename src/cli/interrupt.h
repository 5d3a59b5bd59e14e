// Ctrl-C and SIGTERM as a flag that long work looks at.
#pragma once

#include <atomic>

namespace liquidgemm::cli {

// Installs the handler on first use. The signal interrupts a blocking read (no SA_RESTART).
std::atomic<bool>& interrupt_flag();
// From now on a second signal ends the process at once, with the exit code of the signal.
void exit_on_second_interrupt();
// Ends the process with exit code 1 unless it has ended by itself before.
void exit_after(int seconds);

}  // namespace liquidgemm::cli
