// Numbers from text and rounding, by Python's rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "model/chat/runtime.h"

namespace liquidgemm::chat {

// int(text, base) and float(text): white space around, single underscores between digits.
std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t base);
std::optional<double> parse_real(std::string_view text);

// round(value, digits): halves as the exact binary value has them, ties to the even digit.
double round_real(double value, int digits);
Value round_integer(Runtime& runtime, std::int64_t value, std::int64_t zeros);

}  // namespace liquidgemm::chat
