// Python's two ways to fill a text: "%s" % x and "{}".format(x).

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "model/chat/filters.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

constexpr std::int64_t kMaxWidth = 4096;

struct Spec {
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool space = false;
  bool alternate = false;
  bool center = false;
  std::string fill = " ";
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = 's';
};

bool read_number(std::string_view text, std::size_t& i, std::int64_t* out) {
  std::int64_t value = 0;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') {
    value = value * 10 + (text[i++] - '0');
    if (value > kMaxWidth) return false;
  }
  *out = value;
  return true;
}

std::string pad(const Spec& spec, std::string text, bool number) {
  const auto size = static_cast<std::int64_t>(count_code_points(text));
  if (size >= spec.width) return text;
  const auto missing = static_cast<std::size_t>(spec.width - size);
  if (spec.zero && number && !spec.left) {
    const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ');
    return text.insert(sign, missing, '0');
  }
  const std::size_t before = spec.center ? missing / 2 : spec.left ? 0 : missing;
  std::string out;
  for (std::size_t i = 0; i < before; ++i) out += spec.fill;
  out += text;
  for (std::size_t i = before; i < missing; ++i) out += spec.fill;
  return out;
}

std::string with_sign(const Spec& spec, std::string digits) {
  if (digits.starts_with('-')) return digits;
  if (spec.plus) return "+" + digits;
  if (spec.space) return " " + digits;
  return digits;
}

Value wrong_number(Runtime& runtime, const Spec& spec, const Value& value) {
  return runtime.fail(std::string("%") + spec.type + " format: a number is required, not " +
                      value.type_name());
}

// A number as the conversion asks; false, with an error, when it cannot be done.
bool number_text(Runtime& runtime, const Spec& spec, const Value& value, std::string* out) {
  if (!value.is_number()) {
    if (value.is(Kind::kUndefined)) {
      runtime.fail_undefined(value);
    } else {
      wrong_number(runtime, spec, value);
    }
    return false;
  }
  switch (spec.type) {
    case 'd':
    case 'i':
    case 'u': {
      const double whole = std::trunc(value.as_real());
      if (!value.is_integral() && !(std::abs(whole) < 9.2e18)) {
        runtime.fail("an integer does not fit in 64 bits");
        return false;
      }
      const std::int64_t integer =
          value.is_integral() ? value.as_int() : static_cast<std::int64_t>(whole);
      *out = with_sign(spec, std::to_string(integer));
      return true;
    }
    case 'x':
    case 'X':
    case 'o': {
      if (!value.is_integral()) {
        wrong_number(runtime, spec, value);
        return false;
      }
      char buffer[32];
      const auto size = value.as_int() < 0 ? 0 - static_cast<unsigned long long>(value.as_int())
                                           : static_cast<unsigned long long>(value.as_int());
      std::snprintf(buffer, sizeof(buffer),
                    spec.type == 'x'   ? "%llx"
                    : spec.type == 'X' ? "%llX"
                                       : "%llo",
                    size);
      const std::string mark = spec.alternate ? std::string{'0', spec.type} : std::string();
      *out = with_sign(spec, (value.as_int() < 0 ? "-" : "") + mark + buffer);
      return true;
    }
    default: {
      const char format[] = {'%', '.', '*', spec.type, '\0'};
      std::string buffer(static_cast<std::size_t>(std::max<std::int64_t>(spec.precision, 6)) + 340,
                         '\0');
      const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
      const int size =
          std::snprintf(buffer.data(), buffer.size(), format, precision, value.as_real());
      buffer.resize(static_cast<std::size_t>(std::max(size, 0)));
      *out = with_sign(spec, std::move(buffer));
      return true;
    }
  }
}

std::string first_code_points(const std::string& text, std::int64_t count) {
  std::size_t i = 0;
  while (i < text.size() && count-- > 0) next_code_point(text, i);
  return text.substr(0, i);
}

bool is_real_type(char type) { return std::string_view("eEfFgG").find(type) != std::string::npos; }

// [[fill]align][sign][#][0][width][.precision][type]
bool read_brace_spec(Runtime& runtime, std::string_view text, bool number, Spec* spec) {
  std::size_t i = 0;
  const auto align = [&](std::size_t at) {
    return at < text.size() && (text[at] == '<' || text[at] == '>' || text[at] == '^');
  };
  std::size_t after_fill = 0;
  if (!text.empty()) next_code_point(text, after_fill);
  bool aligned = true;
  if (align(after_fill)) {
    spec->fill = std::string(text.substr(0, after_fill));
    i = after_fill;
  } else if (!align(0)) {
    aligned = false;
  }
  spec->left = aligned ? text[i] == '<' : !number;
  spec->center = aligned && text[i] == '^';
  if (aligned) ++i;
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' ')) {
    spec->plus = text[i] == '+';
    spec->space = text[i++] == ' ';
  }
  if (i < text.size() && text[i] == '#') {
    spec->alternate = true;
    ++i;
  }
  if (i < text.size() && text[i] == '0') {
    spec->zero = !aligned && number;
    ++i;
  }
  bool fine = read_number(text, i, &spec->width);
  if (i < text.size() && text[i] == '.') {
    ++i;
    fine = fine && i < text.size() && text[i] >= '0' && text[i] <= '9' &&
           read_number(text, i, &spec->precision);
  }
  spec->type = i < text.size() ? text[i++] : '\0';
  if (fine && i == text.size()) return true;
  runtime.fail(StatusCode::kUnsupported,
               "the format '" + std::string(text) + "' is not supported in chat templates");
  return false;
}

std::string brace_value(Runtime& runtime, const Value& value, std::string_view text) {
  if (text.empty()) return to_text(runtime, value);
  Spec spec;
  if (!value.is_number() && !value.is(Kind::kString)) {
    runtime.fail(std::string("a format with ':' needs a string or a number, found ") +
                 value.type_name());
    return {};
  }
  if (!read_brace_spec(runtime, text, value.is_number(), &spec)) return {};
  std::string out;
  if (value.is(Kind::kString)) {
    if (spec.type != '\0' && spec.type != 's') {
      runtime.fail(std::string("unknown format code '") + spec.type + "' for a string");
      return {};
    }
    out = value.as_string();
    if (spec.precision >= 0) out = first_code_points(out, spec.precision);
    return pad(spec, std::move(out), false);
  }
  const bool plain = spec.type == '\0' && (value.is_integral() || spec.precision < 0);
  if (plain && value.is(Kind::kFloat)) {
    out = with_sign(spec, real_text(value.as_real()));
  } else {
    if (plain) spec.type = 'd';
    const std::string_view allowed = value.is_integral() ? "dxXoeEfFgG" : "eEfFgG";
    if (allowed.find(spec.type) == std::string_view::npos ||
        (!is_real_type(spec.type) && spec.precision >= 0)) {
      runtime.fail(StatusCode::kUnsupported,
                   "the format '" + std::string(text) + "' is not supported in chat templates");
      return {};
    }
    if (!number_text(runtime, spec, value, &out)) return {};
  }
  return pad(spec, std::move(out), true);
}

// "name.attribute[item]" or "0" or "" (the next argument).
Value brace_field(Runtime& runtime, std::string_view field, const CallArguments& arguments,
                  std::size_t* next) {
  const std::size_t end = std::min(field.find_first_of(".["), field.size());
  const std::string name(field.substr(0, end));
  Value value;
  const bool number = name.find_first_not_of("0123456789") == std::string::npos;
  if (number) {
    const std::size_t index = name.empty()      ? (*next)++
                              : name.size() > 6 ? 999999
                                                : std::stoul(name);
    if (index >= arguments.positional.size()) return runtime.fail("format: too few arguments");
    value = arguments.positional[index];
  } else {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& named) { return named.first == name; });
    if (found == arguments.named.end()) {
      return runtime.fail("format: there is no argument '" + name + "'");
    }
    value = found->second;
  }
  field.remove_prefix(end);
  while (!field.empty() && runtime.step()) {
    const bool item = field[0] == '[';
    const std::size_t close = item ? field.find(']') : field.find_first_of(".[", 1);
    if (item && close == std::string_view::npos) return runtime.fail("format: missing ']'");
    const std::string part(field.substr(1, close == std::string_view::npos ? close : close - 1));
    field.remove_prefix(std::min(
        field.size(), close == std::string_view::npos ? field.size() : close + (item ? 1 : 0)));
    const bool index = item && !part.empty() && part.size() < 10 &&
                       part.find_first_not_of("0123456789") == std::string::npos;
    value = index  ? get_item(runtime, value, Value::integer(std::stoll(part)))
            : item ? get_item(runtime, value, Value::string(part))
                   : get_attribute(runtime, value, part);
  }
  return value;
}

}  // namespace

Value format_percent(Runtime& runtime, const std::string& format, const Value& arguments) {
  const bool several = arguments.is(Kind::kTuple);
  std::size_t next = 0;
  const auto take = [&](Value* out) {
    const std::size_t available = several ? arguments.items().size() : 1;
    if (next >= available) {
      runtime.fail("not enough arguments for format string");
      return false;
    }
    *out = several ? arguments.items()[next] : arguments;
    ++next;
    return true;
  };
  std::string out;
  bool by_name = false;
  for (std::size_t i = 0; i < format.size() && !runtime.failed();) {
    if (format[i] != '%') {
      out.push_back(format[i++]);
      continue;
    }
    if (!runtime.step()) return {};
    ++i;
    Spec spec;
    Value value;
    bool named = false;
    if (i < format.size() && format[i] == '(') {
      const std::size_t close = format.find(')', i);
      if (close == std::string::npos) return runtime.fail("incomplete format key");
      const std::string key = format.substr(i + 1, close - i - 1);
      if (!arguments.is(Kind::kDict)) return runtime.fail("format requires a mapping");
      const Value* found = arguments.as_dict().find(key);
      if (found == nullptr) return runtime.fail("format: there is no key '" + key + "'");
      value = *found;
      named = by_name = true;
      i = close + 1;
    }
    for (; i < format.size(); ++i) {
      if (format[i] == '-')
        spec.left = true;
      else if (format[i] == '0')
        spec.zero = true;
      else if (format[i] == '+')
        spec.plus = true;
      else if (format[i] == ' ')
        spec.space = true;
      else if (format[i] == '#')
        spec.alternate = true;
      else
        break;
    }
    bool fine = read_number(format, i, &spec.width);
    if (i < format.size() && format[i] == '.')
      fine = fine && read_number(format, ++i, &spec.precision);
    if (!fine) return runtime.fail("a width or precision in a format is too large");
    if (i >= format.size()) return runtime.fail("incomplete format");
    spec.type = format[i++];
    if (spec.type == '%') {
      out.push_back('%');
      continue;
    }
    if (!named && !take(&value)) return {};
    if (spec.type == 's' || spec.type == 'r') {
      std::string text = spec.type == 's' ? to_text(runtime, value) : to_repr(runtime, value);
      if (spec.precision >= 0) text = first_code_points(text, spec.precision);
      out += pad(spec, std::move(text), false);
    } else if (is_real_type(spec.type) ||
               std::string_view("diuxXo").find(spec.type) != std::string_view::npos) {
      std::string text;
      if (!number_text(runtime, spec, value, &text)) return {};
      out += pad(spec, std::move(text), true);
    } else {
      return runtime.fail(StatusCode::kUnsupported, std::string("the format %") + spec.type +
                                                        " is not supported in chat templates");
    }
    if (!runtime.fits(out.size())) return {};
  }
  const bool unused =
      several ? next < arguments.items().size()
              : next == 0 && !by_name && !arguments.is(Kind::kDict) && !arguments.is(Kind::kList);
  if (unused) return runtime.fail("not all arguments converted during string formatting");
  return runtime.text(std::move(out));
}

Value format_braces(Runtime& runtime, const std::string& format, const CallArguments& arguments) {
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < format.size() && !runtime.failed(); ++i) {
    const char c = format[i];
    const bool twice = i + 1 < format.size() && format[i + 1] == c;
    if ((c == '{' || c == '}') && twice) {
      out.push_back(c);
      ++i;
    } else if (c == '}') {
      return runtime.fail("single '}' in a format string");
    } else if (c != '{') {
      out.push_back(c);
    } else {
      const std::size_t close = format.find('}', i);
      const std::string_view all = format;
      if (close == std::string::npos) return runtime.fail("single '{' in a format string");
      std::string_view field = all.substr(i + 1, close - i - 1);
      if (field.find('{') != std::string_view::npos) {
        return runtime.fail(StatusCode::kUnsupported,
                            "a format inside a format is not supported in chat templates");
      }
      const std::size_t colon = field.find(':');
      const std::string_view spec =
          colon == std::string_view::npos ? std::string_view() : field.substr(colon + 1);
      field = field.substr(0, colon);
      char conversion = '\0';
      if (field.size() >= 2 && field[field.size() - 2] == '!') {
        conversion = field.back();
        field.remove_suffix(2);
      }
      Value value = brace_field(runtime, field, arguments, &next);
      if (conversion == 'r') value = runtime.text(to_repr(runtime, value));
      if (conversion == 's') value = runtime.text(to_text(runtime, value));
      if (!runtime.failed()) out += brace_value(runtime, value, spec);
      i = close;
      if (!runtime.fits(out.size())) return {};
    }
  }
  return runtime.text(std::move(out));
}

}  // namespace liquidgemm::chat
