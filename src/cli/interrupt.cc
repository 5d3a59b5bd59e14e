#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace liquidgemm::cli {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

std::atomic<bool> exit_on_second{false};

void on_signal(int signal) {
  if (interrupted.exchange(true) && exit_on_second) ::_exit(128 + signal);
}

void on_alarm(int) { ::_exit(1); }

}  // namespace

std::atomic<bool>& interrupt_flag() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    return true;
  }();
  (void)installed;
  return interrupted;
}

void exit_on_second_interrupt() { exit_on_second = true; }

void exit_after(int seconds) {
  struct sigaction action {};
  action.sa_handler = on_alarm;
  sigemptyset(&action.sa_mask);
  sigaction(SIGALRM, &action, nullptr);
  ::alarm(static_cast<unsigned>(seconds));
}

}  // namespace liquidgemm::cli
