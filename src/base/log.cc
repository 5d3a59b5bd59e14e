#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace liquidgemm {
namespace {

spdlog::logger& logger() {
  // Never destroyed: worker threads may log while the process exits.
  static spdlog::logger* instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto* made = new spdlog::logger("liquid", sink);
    made->set_pattern("%^%l%$: %v");
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: logger().set_level(spdlog::level::debug); return;
    case LogLevel::kInfo: logger().set_level(spdlog::level::info); return;
    case LogLevel::kWarning: logger().set_level(spdlog::level::warn); return;
    case LogLevel::kError: logger().set_level(spdlog::level::err); return;
    case LogLevel::kOff: logger().set_level(spdlog::level::off); return;
  }
}

// The message is an argument, never the format: file names may hold braces.
void log_debug(std::string_view message) { logger().debug("{}", message); }
void log_info(std::string_view message) { logger().info("{}", message); }
void log_warning(std::string_view message) { logger().warn("{}", message); }
void log_error(std::string_view message) { logger().error("{}", message); }

}  // namespace liquidgemm
