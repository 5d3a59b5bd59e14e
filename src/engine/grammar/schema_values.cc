// The schemas of strings and numbers.

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/status_macros.h"
#include "engine/grammar/number_range.h"
#include "engine/grammar/regex_grammar.h"
#include "engine/grammar/schema_builder.h"
#include "engine/grammar/string_format.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kMaxLength = 1'000'000;

Result<std::optional<double>> bound(const json::Object& object, std::string_view name) {
  const json::Value* value = object.if_contains(name);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) {
    return invalid_argument(fmt::format("\"{}\": expected a number", name));
  }
  return std::optional<double>(value->to_number<double>());
}

// An integer's bound as an integer: the first that is not beyond it.
Result<std::optional<std::int64_t>> integer_bound(const json::Object& object, std::string_view name,
                                                  bool low, bool exclusive) {
  constexpr double kLimit = 9e18;
  const json::Value* value = object.if_contains(name);
  if (value == nullptr) return std::optional<std::int64_t>();
  std::int64_t whole = 0;
  bool between = false;
  if (value->is_int64()) {
    whole = value->get_int64();
  } else {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const std::optional<double> number, bound(object, name));
    if (std::abs(*number) > kLimit) {
      return unsupported(fmt::format("\"{}\" is not within 64 bits", name));
    }
    const double rounded = low ? std::ceil(*number) : std::floor(*number);
    between = rounded != *number;
    whole = static_cast<std::int64_t>(rounded);
  }
  if (whole > INT64_MAX - 1 || whole < INT64_MIN + 1) {
    return unsupported(fmt::format("\"{}\" is not within 63 bits", name));
  }
  if (exclusive && !between) whole += low ? 1 : -1;
  return std::optional<std::int64_t>(whole);
}

template <typename T>
std::optional<T> stricter(std::optional<T> a, std::optional<T> b, bool low) {
  if (!a || !b) return a ? a : b;
  return low ? std::max(*a, *b) : std::min(*a, *b);
}

}  // namespace

Result<std::string> SchemaBuilder::integer(const json::Object& object, const std::string&) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto low, integer_bound(object, "minimum", true, false));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto above, integer_bound(object, "exclusiveMinimum", true, true));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto high, integer_bound(object, "maximum", false, false));
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto below, integer_bound(object, "exclusiveMaximum", false, true));
  low = stricter(low, above, true);
  high = stricter(high, below, false);
  if (!low && !high) return any_integer();
  const auto range = integer_range(low, high);
  if (!range) return invalid_argument("the bounds leave no integer");
  LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(static_cast<std::int64_t>(range->size() / 4)));
  return *range;
}

Result<std::string> SchemaBuilder::number(const json::Object& object, const std::string&) {
  const auto side = [&](std::string_view name, std::string_view exclusive_name,
                        bool low) -> Result<std::optional<NumberBound>> {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto inclusive, bound(object, name));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const auto exclusive, bound(object, exclusive_name));
    if (!inclusive && !exclusive) return std::optional<NumberBound>();
    const double value = *stricter(inclusive, exclusive, low);
    return std::optional<NumberBound>({value, exclusive && *exclusive == value});
  };
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto low, side("minimum", "exclusiveMinimum", true));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto high, side("maximum", "exclusiveMaximum", false));
  if (!low && !high) return any_number();
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string range, number_range(low, high));
  LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(static_cast<std::int64_t>(range.size() / 4)));
  return range;
}

Result<std::string> SchemaBuilder::string(const json::Object& object, const std::string& path) {
  const json::Reader reader(object, "schema", path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto least, reader.optional_int("minLength", 0, kMaxLength));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto most, reader.optional_int("maxLength", 0, kMaxLength));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto pattern, reader.optional_string("pattern"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto format, reader.optional_string("format"));
  if (pattern.has_value() + format.has_value() + (least || most) > 1) {
    return unsupported(
        "only one of \"pattern\", \"format\" and \"minLength\" with \"maxLength\" is supported "
        "for one string");
  }
  if (pattern) return quoted_regex(*pattern, path);
  if (format) {
    const std::string_view regex = string_format_regex(*format);
    if (regex.empty()) {
      return unsupported(fmt::format("the format \"{}\" is not supported", format->substr(0, 100)));
    }
    return quoted_regex(regex, path);
  }
  if (least && most && *least > *most) {
    return invalid_argument("\"minLength\" is above \"maxLength\"");
  }
  if (least.value_or(0) == 0 && !most) return json_.any_string();
  return json_.string(least.value_or(0), most.value_or(-1));
}

Result<std::string> SchemaBuilder::quoted_regex(std::string_view regex, const std::string&) {
  const auto known = regexes_.find(std::string(regex));
  if (known != regexes_.end()) return known->second;
  auto inner = regex_expression(regex, RegexInside::kJsonString, limits_.max_depth, grammar_);
  if (!inner.ok()) return inner.status().with_context("\"pattern\"");
  const std::string rule =
      GrammarText::reference(grammar_.add("\"\\U00000022\" " + *inner + " \"\\U00000022\""));
  regexes_.emplace(regex, rule);
  return rule;
}

}  // namespace liquidgemm
