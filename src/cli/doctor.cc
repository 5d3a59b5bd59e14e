// `liquid doctor`: everything that a bug report needs, in one screen.

#include <fmt/format.h>
#include <sys/resource.h>
#include <utf8proc.h>

#include <spdlog/version.h>
#include <boost/version.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/json.h"
#include "base/physical_memory.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/model_path.h"
#include "cli/table.h"
#include "gemm/gemm.h"
#include "liquidgemm_version.h"
#include "model/cuda_backend.h"

namespace liquidgemm::cli {
namespace {

std::string limit_text(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) return "unknown";
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur);
}

std::string isa_text() {
  std::string text;
  for (const Isa isa : kIsas) {
    if (!check_isa(isa).ok()) continue;
    text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  text += fmt::format(" (used: {})", isa_name(best_isa()));
  if (best_isa() == Isa::kScalar) {
    text += "; there is no AVX2 here, so plain C++ kernels run, which are many times slower";
  }
  return text;
}

json::Object report() {
  const GpuReport gpus = find_gpus();
  std::string gpu = gpus.names.empty() ? "none" : "";
  for (const std::string& name : gpus.names) gpu += (gpu.empty() ? "" : "; ") + name;
  const Status usable = cuda_usable();
  gpu += usable.ok() ? " (models run on it)" : " (models run on the CPU: " + usable.message() + ")";
  std::error_code error;
  std::filesystem::path cache = cache_folder();
  while (!std::filesystem::exists(cache, error) && cache.has_relative_path()) {
    cache = cache.parent_path();
  }
  const auto space = std::filesystem::space(cache, error);
  json::Object object;
  object["version"] = fmt::format("{} (commit {})", LIQUIDGEMM_VERSION, LIQUIDGEMM_COMMIT);
  object["system"] = operating_system();
  object["CPU"] = cpu_name();
  object["CPUs"] = fmt::format("{} for this process", available_cpus());
  object["ISA"] = isa_text();
  object["memory"] = bytes_text(physical_memory_bytes());
  object["GPU"] = gpu;
  object["GPU driver"] = gpus.driver;
  object["cache"] = fmt::format("{} ({} free)", cache_folder(),
                                bytes_text(error ? 0.0 : static_cast<double>(space.available)));
  object["limits"] =
      fmt::format("file size {}, address space {}, locked memory {}", limit_text(RLIMIT_FSIZE),
                  limit_text(RLIMIT_AS), limit_text(RLIMIT_MEMLOCK));
  object["compiler"] = fmt::format("{} {}",
#if defined(__clang__)
                                   "clang",
#else
                                   "g++",
#endif
                                   __VERSION__);
  object["libraries"] = fmt::format(
      "Boost {}.{}.{}, CLI11 {}, spdlog {}.{}.{}, fmt {}.{}.{}, utf8proc {}",
      BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100, CLI11_VERSION,
      SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH, FMT_VERSION / 10000,
      FMT_VERSION / 100 % 100, FMT_VERSION % 100, utf8proc_version());
  return object;
}

}  // namespace

void add_doctor(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb =
      app.add_subcommand("doctor", "Show the machine and the build: paste it into a bug report");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON");
  verb->footer("Example:\n  liquid doctor --json > doctor.json");
  verb->callback([json, &action] {
    action = [json] {
      const json::Object object = report();
      if (*json) {
        std::printf("%s", json::dump_pretty(object).c_str());
        return ok_status();
      }
      for (const auto& field : object) {
        const std::string name(field.key());
        std::printf("%-12s %s\n", name.c_str(), field.value().get_string().c_str());
      }
      return ok_status();
    };
  });
}

}  // namespace liquidgemm::cli
