// Log lines on standard error, through spdlog. The level comes from --verbose / --quiet.
#pragma once

#include <string_view>

namespace liquidgemm {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void set_log_level(LogLevel level);
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

}  // namespace liquidgemm
