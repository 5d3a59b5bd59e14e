// Arguments of filters, tests and methods, and the filters that are neither text's nor a
// sequence's.

#include "model/chat/filters.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "model/chat/numbers.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

Value filter_default(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "default", arguments, {"default_value", "boolean"});
  const bool boolean = parameters.given(1) && truth(parameters[1]);
  if (!value.is(Kind::kUndefined) && !(boolean && !truth(value))) return value;
  return parameters.given(0) ? parameters[0] : Value::string("");
}

Value filter_int(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "int", arguments, {"default", "base"});
  const std::int64_t base = parameters.integer(1, 10);
  if (!parameters.ok()) return {};
  const Value otherwise = parameters.given(0) ? parameters[0] : Value::integer(0);
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (value.is_integral()) return Value::integer(value.as_int());
  double real = value.is(Kind::kFloat) ? value.as_real() : 0;
  if (value.is(Kind::kString)) {
    if (!runtime.charge(value.as_string().size())) return {};
    if (const auto integer = parse_integer(value.as_string(), base)) {
      return Value::integer(*integer);
    }
    const auto parsed = parse_real(value.as_string());
    if (!parsed) return otherwise;
    real = *parsed;
  } else if (!value.is(Kind::kFloat)) {
    return otherwise;
  }
  if (!std::isfinite(real)) return otherwise;
  if (std::abs(real) >= 9.2e18) return runtime.fail("an integer does not fit in 64 bits");
  return Value::integer(static_cast<std::int64_t>(real));
}

Value filter_float(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "float", arguments, {"default"});
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (value.is_number()) return Value::real(value.as_real());
  if (value.is(Kind::kString)) {
    if (!runtime.charge(value.as_string().size())) return {};
    if (const auto parsed = parse_real(value.as_string())) return Value::real(*parsed);
  }
  return parameters.given(0) ? parameters[0] : Value::real(0);
}

Value filter_abs(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "abs", arguments, {});
  if (value.is(Kind::kFloat)) return Value::real(std::abs(value.as_real()));
  if (!value.is_integral()) {
    return runtime.fail(std::string("bad operand type for abs(): '") + value.type_name() + "'");
  }
  return value.as_int() < 0 ? negate(runtime, value) : Value::integer(value.as_int());
}

Value filter_round(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "round", arguments, {"precision", "method"});
  const std::int64_t precision = parameters.integer(0, 0);
  const std::string method = parameters.string(1, "common");
  if (!parameters.ok()) return {};
  if (method != "common" && method != "ceil" && method != "floor") {
    return runtime.fail("round: the method must be common, ceil or floor");
  }
  if (!value.is_number()) {
    return runtime.fail(std::string("round needs a number, found ") + value.type_name());
  }
  if (std::abs(precision) > 300) return runtime.fail("round: the precision is out of range");
  if (method == "common") {
    if (value.is_integral() && precision >= 0) return Value::integer(value.as_int());
    if (value.is_integral()) return round_integer(runtime, value.as_int(), -precision);
    return Value::real(round_real(value.as_real(), static_cast<int>(precision)));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.as_real() * scale;
  if (!std::isfinite(scaled)) return runtime.fail("round: the number is not finite");
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale + 0.0);
}

bool read_indent(Runtime& runtime, const Value& indent, JsonStyle* style) {
  if (indent.is(Kind::kNone) || indent.is(Kind::kUndefined)) return true;
  style->pretty = true;
  style->item_separator = ",";
  if (indent.is(Kind::kString)) {
    style->indent = indent.as_string();
    return runtime.fits(style->indent.size());
  }
  if (!indent.is_integral()) {
    runtime.fail("tojson: indent must be a number, a string or none");
    return false;
  }
  const std::int64_t width = std::max<std::int64_t>(0, indent.as_int());
  if (!runtime.fits(static_cast<std::size_t>(width))) return false;
  style->indent = std::string(static_cast<std::size_t>(width), ' ');
  return true;
}

// As Hugging Face defines it: plain JSON, with nothing escaped for HTML.
Value filter_tojson(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "tojson", arguments,
                        {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = parameters.truth(0, false);
  style.sort_keys = parameters.truth(3, false);
  if (!parameters.ok() || !read_indent(runtime, parameters[1], &style)) return {};
  const Value& separators = parameters[2];
  if (!separators.is(Kind::kUndefined) && !separators.is(Kind::kNone)) {
    const bool pair = (separators.is(Kind::kTuple) || separators.is(Kind::kList)) &&
                      separators.items().size() == 2 && separators.items()[0].is(Kind::kString) &&
                      separators.items()[1].is(Kind::kString);
    if (!pair) return runtime.fail("tojson: separators must be two strings");
    style.item_separator = separators.items()[0].as_string();
    style.key_separator = separators.items()[1].as_string();
  }
  return runtime.text(to_json(runtime, value, style));
}

Value filter_length(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "length", arguments, {});
  return length_of(runtime, value);
}

// Like value.name, but never like value["name"].
Value filter_attr(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "attr", arguments, {"name"}, 1);
  const std::string name = parameters.string(0, "");
  if (!parameters.ok()) return {};
  if (value.is(Kind::kDict) && !has_method(value, name)) {
    return Value::undefined("'dict object' has no attribute '" + name + "'");
  }
  return get_attribute(runtime, value, name);
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"abs", filter_abs},       {"attr", filter_attr},       {"count", filter_length},
    {"d", filter_default},     {"default", filter_default}, {"float", filter_float},
    {"int", filter_int},       {"length", filter_length},   {"round", filter_round},
    {"tojson", filter_tojson},
};

Filter find_filter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  if (const Filter filter = find_text_filter(name)) return filter;
  return find_sequence_filter(name);
}

}  // namespace

Parameters::Parameters(Runtime& runtime, std::string_view function, const CallArguments& arguments,
                       std::initializer_list<std::string_view> names, std::size_t required)
    : runtime_(runtime), function_(function), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names.size()) {
    runtime_.fail(function_ + " takes at most " + std::to_string(names.size()) +
                  " argument(s), found " + std::to_string(arguments.positional.size()));
    return;
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto* found = std::find(names.begin(), names.end(), name);
    const auto index = static_cast<std::size_t>(found - names.begin());
    if (found == names.end() || values_[index] != nullptr) {
      runtime_.fail(
          function_ +
          (found == names.end() ? " has no argument named '" : " was given twice the argument '") +
          name + "'");
      return;
    }
    values_[index] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] != nullptr) continue;
    runtime_.fail(function_ + " needs the argument '" + std::string(names.begin()[i]) + "'");
    return;
  }
}

const Value& Parameters::operator[](std::size_t index) const {
  static const Value kMissing{};
  return values_[index] != nullptr ? *values_[index] : kMissing;
}

std::int64_t Parameters::integer(std::size_t index, std::int64_t otherwise) {
  if (values_[index] == nullptr) return otherwise;
  if (values_[index]->is_integral()) return values_[index]->as_int();
  runtime_.fail(function_ + " needs an integer, found " + values_[index]->type_name());
  return otherwise;
}

std::string Parameters::string(std::size_t index, std::string_view otherwise) {
  if (values_[index] == nullptr) return std::string(otherwise);
  if (values_[index]->is(Kind::kString)) {
    return runtime_.charge(values_[index]->as_string().size()) ? values_[index]->as_string()
                                                               : std::string();
  }
  runtime_.fail(function_ + " needs a string, found " + values_[index]->type_name());
  return std::string(otherwise);
}

bool Parameters::truth(std::size_t index, bool otherwise) {
  return values_[index] == nullptr ? otherwise : chat::truth(*values_[index]);
}

bool is_filter(std::string_view name) { return find_filter(name) != nullptr; }

Value apply_filter(Runtime& runtime, const std::string& name, const Value& value,
                   const CallArguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) {
    return runtime.fail(StatusCode::kUnsupported, "there is no filter named '" + name + "'");
  }
  return filter(runtime, value, arguments);
}

}  // namespace liquidgemm::chat
