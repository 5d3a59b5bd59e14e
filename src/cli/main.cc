// `liquid`: quantize, run, serve, eval, bench, inspect, doctor, version.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

// --max_tokens is --max-tokens: underscores in option names read as dashes.
std::string with_dashes(std::string argument) {
  if (argument.rfind("--", 0) == 0) {
    const auto end =
        argument.begin() + static_cast<long>(std::min(argument.find('='), argument.size()));
    std::replace(argument.begin(), end, '_', '-');
  }
  return argument;
}

int run(int argc, char** argv) {
  using namespace liquidgemm;
  CLI::App app("Fast W4A8 inference: 4-bit LiquidQuant weights, 8-bit activations.", "liquid");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Examples:\n"
      "  liquid quantize ~/models/Qwen2.5-0.5B-Instruct -o qwen-w4a8\n"
      "  liquid run qwen-w4a8 --prompt \"Name three uses of a paper clip.\"\n"
      "  liquid run qwen-w4a8                      (chat on the terminal)\n"
      "  liquid eval ppl model.gguf --precision fp32,w4a8\n"
      "\n"
      "MODEL is a Hugging Face folder, a .gguf file, or a name like org/model in the local\n"
      "Hugging Face cache. `liquid VERB --help` tells more.");
  cli::Globals globals;
  app.add_flag("-q,--quiet", globals.quiet, "Print results and errors only");
  app.add_flag("-v,--verbose", globals.verbose, "Print what is being done");
  cli::Action action;
  cli::add_quantize(app, globals, action);
  cli::add_run(app, globals, action);
  cli::add_serve(app, globals, action);
  cli::add_eval(app, globals, action);
  cli::add_bench(app, globals, action);
  cli::add_inspect(app, globals, action);
  cli::add_doctor(app, globals, action);
  cli::add_version(app, globals, action);

  // CLI11 takes the arguments last first.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) arguments.push_back(with_dashes(argv[i]));
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (globals.quiet) {
    set_log_level(LogLevel::kError);
    Progress::set_default_style(ProgressStyle::kSilent);
  } else {
    set_log_level(globals.verbose ? LogLevel::kDebug : LogLevel::kInfo);
  }
  const Status status = action();
  if (status.ok()) return 0;
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return kExitFailed;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
  }
  return kExitFailed;
}
