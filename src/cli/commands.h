// The verbs of `liquid`: one file each. A verb adds its subcommand and, when the user chose it,
// sets the action that main runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

// Flags that every verb knows.
struct Globals {
  bool quiet = false;
  bool verbose = false;
};

// Exit codes: 0 done, 1 failed (one "error: ..." line on standard error), 2 wrong usage.
using Action = std::function<Status()>;

void add_quantize(CLI::App& app, Globals& globals, Action& action);
void add_run(CLI::App& app, Globals& globals, Action& action);
void add_serve(CLI::App& app, Globals& globals, Action& action);
void add_eval(CLI::App& app, Globals& globals, Action& action);
void add_bench(CLI::App& app, Globals& globals, Action& action);
void add_inspect(CLI::App& app, Globals& globals, Action& action);
void add_doctor(CLI::App& app, Globals& globals, Action& action);
void add_version(CLI::App& app, Globals& globals, Action& action);

}  // namespace liquidgemm::cli
