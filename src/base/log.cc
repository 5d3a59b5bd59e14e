#include "base/log.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>

#include "base/json.h"

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

std::atomic<bool> json_lines{false};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: break;
  }
  return spdlog::level::off;
}

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarning: return "warning";
    default: return "error";
  }
}

std::string time_text() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     ms.count() % 1000);
}

std::string json_line(LogLevel level, std::string_view message,
                      std::initializer_list<LogField> fields) {
  json::Object line{{"time", time_text()}, {"level", level_name(level)}, {"message", message}};
  for (const LogField& field : fields) {
    std::visit([&](const auto& value) { line[field.name] = value; }, field.value);
  }
  return json::dump(line);
}

std::string text_line(std::string_view message, std::initializer_list<LogField> fields) {
  std::string line(message);
  for (const LogField& field : fields) {
    line.append(" ").append(field.name).append("=");
    if (const auto* number = std::get_if<double>(&field.value)) {
      line += fmt::format("{:.3f}", *number);
    } else if (const auto* integer = std::get_if<std::int64_t>(&field.value)) {
      line += std::to_string(*integer);
    } else {
      line += std::get<std::string_view>(field.value);
    }
  }
  return line;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(spdlog_level(level)); }

void set_log_format(LogFormat format) {
  // Set before threads log; the pattern itself is the logger's to guard.
  json_lines = format == LogFormat::kJson;
  switch (format) {
    case LogFormat::kPlain: logger().set_pattern("%^%l%$: %v"); return;
    case LogFormat::kTimed: logger().set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$: %v"); return;
    case LogFormat::kJson: logger().set_pattern("%v"); return;
  }
}

// The message is an argument, never the format: file names may hold braces.
void log_debug(std::string_view message) { log_event(LogLevel::kDebug, message, {}); }
void log_info(std::string_view message) { log_event(LogLevel::kInfo, message, {}); }
void log_warning(std::string_view message) { log_event(LogLevel::kWarning, message, {}); }
void log_error(std::string_view message) { log_event(LogLevel::kError, message, {}); }

void log_event(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  const spdlog::level::level_enum at = spdlog_level(level);
  if (!logger().should_log(at)) return;
  if (json_lines) {
    logger().log(at, "{}", json_line(level, message, fields));
  } else if (fields.size() == 0) {
    logger().log(at, "{}", message);
  } else {
    logger().log(at, "{}", text_line(message, fields));
  }
}

}  // namespace liquidgemm
