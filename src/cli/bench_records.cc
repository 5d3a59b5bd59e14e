#include "cli/bench_records.h"

#include <fmt/format.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/atomic_file.h"
#include "base/status_macros.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {

namespace {

// A key in a command is no part of what another needs to repeat it.
void hide_key(std::string& argument, bool& secret) {
  if (std::exchange(secret, false)) {
    argument = "KEY";
    return;
  }
  for (const std::string option : {"--api-key", "--api_key"}) {
    secret = secret || argument == option;
    if (argument.rfind(option + "=", 0) == 0) argument = option + "=KEY";
  }
}

}  // namespace

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

std::string command_line() {
  std::ifstream file("/proc/self/cmdline");
  std::string command, argument;
  bool secret = false;  // the argument before was --api-key
  while (std::getline(file, argument, '\0')) {
    hide_key(argument, secret);
    const bool absolute = argument.rfind('/', 0) == 0;
    if (command.empty() || absolute) {
      argument = std::filesystem::path(argument).filename().string();
    }
    const bool quote = argument.find_first_of(" ;") != std::string::npos || argument.empty();
    command += (command.empty() ? "" : " ") + (quote ? "'" + argument + "'" : argument);
  }
  return command;
}

std::string provenance(const std::string& command) {
  return fmt::format("\nRecorded {} by liquid {}, commit {}:\n\n    {}\n", today(),
                     LIQUIDGEMM_VERSION, LIQUIDGEMM_COMMIT, command);
}

Status write_records(const std::vector<std::string>& paths,
                     const std::function<std::string(const std::string&)>& render) {
  for (const std::string& path : paths) {
    const std::string extension = std::filesystem::path(path).extension().string();
    LIQUIDGEMM_RETURN_IF_ERROR(write_file_atomically(path, render(extension)));
  }
  return ok_status();
}

}  // namespace liquidgemm::cli
