#include "bench/cpu/onednn.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/median.h"
#include "base/status_macros.h"

namespace liquidgemm::bench::cpu {
namespace {

constexpr std::string_view kProgram = "liquid-bench-onednn";

// This process's variables but for those that steer OpenMP and oneDNN, and ours instead.
std::vector<std::string> environment(const OneDnnRequest& request) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with("OMP_") || text.starts_with("GOMP_") || text.starts_with("DNNL_") ||
        text.starts_with("ONEDNN_")) {
      continue;
    }
    variables.emplace_back(text);
  }
  variables.push_back("OMP_NUM_THREADS=" + std::to_string(request.threads));
  variables.push_back("OMP_PROC_BIND=true");
  variables.push_back("OMP_DYNAMIC=false");
  variables.push_back("OMP_WAIT_POLICY=active");
  if (request.isa == Isa::kAvx2) variables.push_back("DNNL_MAX_CPU_ISA=AVX2");
  if (request.isa == Isa::kAvx512Vnni) variables.push_back("DNNL_MAX_CPU_ISA=AVX512_CORE_VNNI");
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

// What the program writes to its standard output until it ends, and its exit status.
Result<std::string> output_of(const std::string& program, std::vector<std::string> arguments,
                              std::vector<std::string> variables) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error(program + ": no pipe could be made");
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  arguments.insert(arguments.begin(), program);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(variables);
  pid_t child = 0;
  const int failure =
      ::posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), envp.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failure != 0) {
    ::close(ends[0]);
    return io_error(program + " could not be started: " + std::strerror(failure));
  }
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (got > 0) {
      text.append(buffer, static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      break;
    }
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) return cancelled("interrupted");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return io_error(program + " failed; --no-rivals leaves oneDNN out");
  }
  return text;
}

}  // namespace

bool onednn_compares(std::int64_t m, Isa isa) { return m >= kOneDnnTokens && isa != Isa::kScalar; }

std::string onednn_program() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "";
  const std::string program = self.parent_path() / kProgram;
  return ::access(program.c_str(), X_OK) == 0 ? program : "";
}

Result<std::optional<OneDnnTime>> measure_onednn(const OneDnnRequest& request) {
  const std::string program = onednn_program();
  if (program.empty()) return std::optional<OneDnnTime>();
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const std::string text,
      output_of(program,
                {std::to_string(request.shape.n), std::to_string(request.shape.k),
                 std::to_string(request.m), std::to_string(request.rounds),
                 std::to_string(request.round_seconds)},
                environment(request)));
  const std::string where(kProgram);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse(text, where));
  if (!value.is_object()) return internal_error(where + " wrote no JSON object");
  const json::Reader reader(value.get_object(), where);
  OneDnnTime time;
  LIQUIDGEMM_ASSIGN_OR_RETURN(time.version, reader.required_string("version"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(time.implementation, reader.required_string("implementation"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(time.seconds, reader.required_number("median_seconds", 0, 1e9));
  LIQUIDGEMM_ASSIGN_OR_RETURN(time.spread, reader.required_number("spread", 0, 1e9));
  return std::optional<OneDnnTime>(std::move(time));
}

}  // namespace liquidgemm::bench::cpu
