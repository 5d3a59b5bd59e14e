#include "engine/grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "engine/grammar/grammar_text.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kDigits = 15;        // of an integer without a bound, and of a fraction
constexpr std::size_t kFurtherDigits = 6;  // of a fraction, beyond those of its bound
constexpr std::uint64_t kLargest = 999'999'999'999'999;

std::string digits(char first, char last) {
  if (first == last) return fmt::format("\"{}\"", first);
  return fmt::format("[{}-{}]", first, last);
}

std::string any_digits(std::size_t count) {
  return count == 0 ? "" : fmt::format(" [0-9]{{{}}}", count);
}

// The digit strings from `low` to `high`, all three of one length, at least 1.
std::string same_length(std::string_view low, std::string_view high) {
  const std::size_t rest = low.size() - 1;
  if (rest == 0) return digits(low[0], high[0]);
  if (low[0] == high[0]) {
    return digits(low[0], low[0]) + " " + same_length(low.substr(1), high.substr(1));
  }
  const std::string zeros(rest, '0');
  const std::string nines(rest, '9');
  char first = low[0];
  char last = high[0];
  std::vector<std::string> choices;
  if (low.substr(1) != zeros) {
    choices.push_back(digits(first, first) + " " + same_length(low.substr(1), nines));
    ++first;
  }
  std::string at_high;
  if (high.substr(1) != nines) {
    at_high = digits(last, last) + " " + same_length(zeros, high.substr(1));
    --last;
  }
  if (first <= last) choices.push_back(digits(first, last) + any_digits(rest));
  if (!at_high.empty()) choices.push_back(at_high);
  return GrammarText::choice(choices);
}

// The decimal strings of low..high without leading zeros, one choice a length.
void add_lengths(std::uint64_t low, std::uint64_t high, const std::string& prefix,
                 std::vector<std::string>& choices) {
  if (low > high) return;
  const std::string low_digits = std::to_string(low);
  const std::string high_digits = std::to_string(high);
  for (std::size_t length = low_digits.size(); length <= high_digits.size(); ++length) {
    const std::string first =
        length == low_digits.size() ? low_digits : "1" + std::string(length - 1, '0');
    const std::string last = length == high_digits.size() ? high_digits : std::string(length, '9');
    choices.push_back(prefix + same_length(first, last));
  }
}

std::uint64_t magnitude(std::int64_t value) {
  return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}

// A bound that is not negative, as digits before and after the point; no zeros at the end.
struct Decimal {
  std::uint64_t whole = 0;
  std::string fraction;
  bool exclusive = false;
};

Result<Decimal> to_decimal(double value, bool exclusive) {
  char text[400];
  const auto written = std::to_chars(text, text + sizeof(text), value, std::chars_format::fixed);
  std::string_view shortest(text, static_cast<std::size_t>(written.ptr - text));
  const std::size_t point = std::min(shortest.find('.'), shortest.size());
  Decimal decimal;
  decimal.exclusive = exclusive;
  if (point < shortest.size()) decimal.fraction = shortest.substr(point + 1);
  if (point > kDigits || decimal.fraction.size() > kDigits) {
    return unsupported(fmt::format(
        "a bound of {} has more than {} digits before or after the point", value, kDigits));
  }
  std::from_chars(text, text + point, decimal.whole);
  return decimal;
}

bool is_zero(const Decimal& decimal) { return decimal.whole == 0 && decimal.fraction.empty(); }

// One more or one less in a string of digits; false where that is not possible.
bool step_digits(std::string& text, char from, char to, int step) {
  for (std::size_t i = text.size(); i-- > 0;) {
    if (text[i] != from) {
      text[i] = static_cast<char>(text[i] + step);
      return true;
    }
    text[i] = to;
  }
  return false;
}

// The fractions from that of `low` to that of `high` ("" where the number may have none); a missing
// bound is 0 or 1.
void add_fractions(const Decimal* low, const Decimal* high, const std::string& whole,
                   std::vector<std::string>& choices) {
  const bool zero = (low == nullptr || (low->fraction.empty() && !low->exclusive)) &&
                    (high == nullptr || !high->fraction.empty() || !high->exclusive);
  if (zero) choices.push_back(whole);
  if (high != nullptr && high->fraction.empty()) {
    if (zero) choices.push_back(whole + " \".0\"");
    return;
  }
  if (high == nullptr && zero) {
    choices.push_back(whole + fmt::format(" \".\" [0-9]{{1,{}}}", kDigits));
    return;
  }
  const std::size_t most = std::max(low == nullptr ? 0 : low->fraction.size(),
                                    high == nullptr ? 0 : high->fraction.size()) +
                           kFurtherDigits;
  for (std::size_t length = 1; length <= most; ++length) {
    std::string first(length, '0');
    std::string last(length, '9');
    bool any = true;
    if (low != nullptr) {
      first = low->fraction.substr(0, length);
      first.resize(length, '0');
      if (low->fraction.size() > length || low->exclusive) any = step_digits(first, '9', '0', 1);
    }
    if (any && high != nullptr) {
      last = high->fraction.substr(0, length);
      last.resize(length, '0');
      if (high->fraction.size() <= length && high->exclusive) any = step_digits(last, '0', '9', -1);
    }
    if (any && first <= last) choices.push_back(whole + " \".\" " + same_length(first, last));
  }
}

// Numbers from `low` to `high` (none: no bound), neither of them negative.
void add_numbers(const Decimal& low, const Decimal* high, const std::string& sign,
                 std::vector<std::string>& choices) {
  const std::string low_whole = sign + fmt::format("\"{}\"", low.whole);
  if (high != nullptr && high->whole == low.whole) {
    add_fractions(&low, high, low_whole, choices);
    return;
  }
  add_fractions(&low, nullptr, low_whole, choices);
  const std::uint64_t inner_last = high == nullptr ? kLargest : high->whole - 1;
  std::vector<std::string> inner;
  add_lengths(low.whole + 1, inner_last, "", inner);
  if (!inner.empty()) {
    choices.push_back(sign + GrammarText::choice(inner) +
                      fmt::format(" (\".\" [0-9]{{1,{}}})?", kDigits));
  }
  if (high != nullptr) {
    add_fractions(nullptr, high, sign + fmt::format("\"{}\"", high->whole), choices);
  }
}

}  // namespace

std::optional<std::string> integer_range(std::optional<std::int64_t> low,
                                         std::optional<std::int64_t> high) {
  const auto beyond = [](std::int64_t bound) {
    return magnitude(bound) <= kLargest ? kLargest : std::uint64_t{INT64_MAX};
  };
  std::vector<std::string> choices;
  if (!low || *low < 0) {
    const std::uint64_t first = high && *high < 0 ? magnitude(*high) : 1;
    add_lengths(first, low ? magnitude(*low) : beyond(high.value_or(0)), "\"-\" ", choices);
  }
  if (!high || *high >= 0) {
    const std::uint64_t first = low && *low > 0 ? magnitude(*low) : 0;
    add_lengths(first, high ? magnitude(*high) : beyond(low.value_or(0)), "", choices);
  }
  if (choices.empty()) return std::nullopt;
  return GrammarText::choice(choices);
}

Result<std::string> number_range(const std::optional<NumberBound>& low,
                                 const std::optional<NumberBound>& high) {
  const auto empty_range = [] { return invalid_argument("the bounds leave no number"); };
  if (low && high &&
      (low->value > high->value ||
       (low->value == high->value && (low->exclusive || high->exclusive)))) {
    return empty_range();
  }
  std::vector<std::string> choices;
  if (!low || low->value < 0) {  // mirrored: from -high to -low
    Decimal first;
    first.exclusive = true;  // 0 belongs to the other half
    if (high && high->value < 0) {
      auto bound = to_decimal(-high->value, high->exclusive);
      if (!bound.ok()) return bound.status();
      first = *bound;
    }
    Decimal last;
    if (low) {
      auto bound = to_decimal(-low->value, low->exclusive);
      if (!bound.ok()) return bound.status();
      last = *bound;
    }
    add_numbers(first, low ? &last : nullptr, "\"-\" ", choices);
  }
  if (!high || high->value > 0 || (high->value == 0 && !high->exclusive)) {
    Decimal first;
    if (low && low->value >= 0) {
      auto bound = to_decimal(std::abs(low->value), low->exclusive);
      if (!bound.ok()) return bound.status();
      first = *bound;
    }
    Decimal last;
    if (high) {
      auto bound = to_decimal(std::abs(high->value), high->exclusive);
      if (!bound.ok()) return bound.status();
      last = *bound;
    }
    if (high && is_zero(last)) {
      choices.push_back("\"0\"");
    } else {
      add_numbers(first, high ? &last : nullptr, "", choices);
    }
  }
  if (choices.empty()) return empty_range();
  return GrammarText::choice(choices);
}

std::string any_integer() { return "(\"0\" | \"-\"? [1-9] [0-9]{0,14})"; }

std::string any_number() {
  return "\"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" [0-9]{1,15})? ([eE] [+\\U0000002d]? "
         "[0-9]{1,2})?";
}

}  // namespace liquidgemm
