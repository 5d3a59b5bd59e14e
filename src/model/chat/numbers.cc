#include "model/chat/numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

// Without underscores between digits; nothing when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto alnum = [&](std::size_t i) {
    return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
    } else if (i == 0 || !alnum(i - 1) || !alnum(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t base) {
  text = strip(text, nullptr, true, true);
  const auto plain = without_underscores(text);
  if (!plain || (base != 0 && (base < 2 || base > 36))) return std::nullopt;
  std::string_view digits = *plain;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (digits.size() > 2 && digits[0] == '0') {
    const char mark = static_cast<char>(digits[1] | 0x20);
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == marked || base == 0)) {
      base = marked;
      digits.remove_prefix(2);
    }
  }
  if (base == 0) base = 10;
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return std::nullopt;
  std::int64_t value = 0;
  const std::string signed_digits = (negative ? "-" : "") + std::string(digits);
  const char* end = signed_digits.data() + signed_digits.size();
  const auto result = std::from_chars(signed_digits.data(), end, value, static_cast<int>(base));
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  text = strip(text, nullptr, true, true);
  const auto plain = without_underscores(text);
  if (!plain) return std::nullopt;
  std::string_view digits = *plain;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return std::nullopt;
  double value = 0;
  const std::string lower = to_lower(digits.substr(0, 9));
  if (lower == "inf" || lower == "infinity" || lower == "nan") {
    value = lower == "nan" ? std::nan("") : HUGE_VAL;
  } else {
    if (!std::isdigit(static_cast<unsigned char>(digits[0])) && digits[0] != '.') {
      return std::nullopt;
    }
    const char* end = digits.data() + digits.size();
    const auto result = std::from_chars(digits.data(), end, value);
    if (result.ptr != end) return std::nullopt;
    if (result.ec == std::errc::result_out_of_range) {
      value = std::strtod(std::string(digits).c_str(), nullptr);
    } else if (result.ec != std::errc()) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

double round_real(double value, int digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0) {
    // printf rounds the exact binary value, as Python does.
    std::string text(static_cast<std::size_t>(digits) + 330, '\0');
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return std::strtod(text.c_str(), nullptr);
  }
  const double scale = std::pow(10.0, -digits);
  return std::nearbyint(value / scale) * scale;
}

Value round_integer(Runtime& runtime, std::int64_t value, std::int64_t zeros) {
  if (zeros > 18) return Value::integer(0);
  std::int64_t scale = 1;
  for (std::int64_t i = 0; i < zeros; ++i) scale *= 10;
  std::int64_t quotient = value / scale;
  const std::int64_t remainder = value % scale;
  const std::int64_t size = remainder < 0 ? -remainder : remainder;
  const std::int64_t half = scale - size;
  if (size > half || (size == half && (quotient & 1) != 0)) quotient += value < 0 ? -1 : 1;
  std::int64_t out = 0;
  if (__builtin_mul_overflow(quotient, scale, &out)) {
    return runtime.fail("an integer does not fit in 64 bits");
  }
  return Value::integer(out);
}

}  // namespace liquidgemm::chat
