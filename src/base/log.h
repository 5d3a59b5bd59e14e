// Log lines on standard error, through spdlog. The level comes from --verbose / --quiet.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <variant>

namespace liquidgemm {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// kPlain: "info: message". kTimed: the time before it. kJson: one object a line, with "time",
// "level", "message" and the fields of an event.
enum class LogFormat { kPlain, kTimed, kJson };

struct LogField {
  std::string_view name;
  std::variant<std::int64_t, double, std::string_view> value;
};

void set_log_level(LogLevel level);
void set_log_format(LogFormat format);
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);
// Something that programs may want to read: the message, then "name=value" of each field.
void log_event(LogLevel level, std::string_view message, std::initializer_list<LogField> fields);

}  // namespace liquidgemm
