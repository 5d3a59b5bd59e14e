// Filters that make text.

#include <algorithm>

#include "model/chat/filters.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

// A filter's input as text; a string stays escaped if it was.
Value soft_text(Runtime& runtime, const Value& value) {
  return value.is(Kind::kString) ? value : runtime.text(to_text(runtime, value));
}

Value filter_string(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "string", arguments, {});
  return soft_text(runtime, value);
}

// A filter that is a method of strings, on anything that can be printed.
template <const char* kMethod>
Value by_method(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Value text = soft_text(runtime, value);
  if (runtime.failed()) return {};
  return call_string_method(runtime, text, kMethod, arguments);
}

constexpr char kUpper[] = "upper";
constexpr char kLower[] = "lower";
constexpr char kCapitalize[] = "capitalize";

Value filter_trim(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "trim", arguments, {"chars"});
  const Value text = soft_text(runtime, value);
  CallArguments rest;
  if (parameters.given(0)) rest.positional.push_back(parameters[0]);
  if (!parameters.ok()) return {};
  return call_string_method(runtime, text, "strip", rest);
}

// Upper case behind white space, '-' and opening brackets, lower case elsewhere.
Value filter_title(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "title", arguments, {});
  const Value text = soft_text(runtime, value);
  if (runtime.failed() || !runtime.charge(text.as_string().size())) return {};
  std::string out;
  bool begins = true;
  for (std::size_t i = 0; i < text.as_string().size();) {
    const char32_t c = next_code_point(text.as_string(), i);
    begins ? append_upper(out, c) : append_lower(out, c);
    begins = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  }
  return runtime.text(std::move(out));
}

Value filter_replace(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  if (!parameters.ok()) return {};
  CallArguments rest;
  rest.positional.push_back(runtime.text(to_text(runtime, parameters[0])));
  rest.positional.push_back(runtime.text(to_text(runtime, parameters[1])));
  if (parameters.given(2) && !parameters[2].is(Kind::kNone)) {
    rest.positional.push_back(parameters[2]);
  }
  const Value text = runtime.text(to_text(runtime, value));
  return runtime.failed() ? Value() : call_string_method(runtime, text, "replace", rest);
}

Value filter_indent(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "indent", arguments, {"width", "first", "blank"});
  if (value.is(Kind::kUndefined)) return runtime.fail_undefined(value);
  if (!value.is(Kind::kString)) {
    return runtime.fail(std::string("indent needs a string, found ") + value.type_name());
  }
  std::string indent(4, ' ');
  if (parameters[0].is(Kind::kString)) {
    indent = parameters[0].as_string();
  } else if (parameters.given(0)) {
    const std::int64_t width = std::max<std::int64_t>(0, parameters.integer(0, 4));
    if (!runtime.fits(static_cast<std::size_t>(width))) return {};
    indent = std::string(static_cast<std::size_t>(width), ' ');
  }
  const bool blank = parameters.truth(2, false);
  if (!parameters.ok()) return {};
  // Jinja adds a line break and splits, so one at the very end of the text is kept as a line.
  CallArguments none;
  const Value lines =
      call_string_method(runtime, runtime.text(value.as_string() + "\n"), "splitlines", none);
  if (runtime.failed()) return {};
  std::string out;
  bool first = true;
  for (const Value& line : lines.items()) {
    if (!first) out += "\n";
    const bool indented = first ? parameters.truth(1, false) : blank || !line.as_string().empty();
    if (indented) out += indent;
    out += line.as_string();
    first = false;
    if (out.size() > runtime.limits().output_bytes) break;
  }
  return runtime.text(std::move(out), value.is_markup());
}

Value filter_safe(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "safe", arguments, {});
  return runtime.text(to_text(runtime, value), true);
}

Value filter_escape(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "escape", arguments, {});
  if (value.is_markup()) return value;
  return runtime.text(escape_html(to_text(runtime, value)), true);
}

Value filter_format(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Value text = soft_text(runtime, value);
  if (runtime.failed()) return {};
  if (!arguments.named.empty()) {
    if (!arguments.positional.empty()) {
      return runtime.fail("format takes arguments by position or by name, not both");
    }
    auto dict = std::make_shared<Dict>();
    for (const auto& [name, argument] : arguments.named) {
      runtime.set(*dict, Value::string(name), argument);
    }
    return format_percent(runtime, text.as_string(), runtime.dict(std::move(dict)));
  }
  return format_percent(runtime, text.as_string(),
                        runtime.sequence(Kind::kTuple, arguments.positional));
}

Value filter_wordcount(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Parameters parameters(runtime, "wordcount", arguments, {});
  const std::string text = to_text(runtime, value);
  if (!runtime.charge(text.size())) return {};
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const bool word = is_word(next_code_point(text, i));
    if (word && !inside) ++words;
    inside = word;
  }
  return Value::integer(words);
}

Value filter_join(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  Parameters parameters(runtime, "join", arguments, {"d", "attribute"});
  if (!parameters.ok()) return {};
  const std::string separator = parameters.given(0) ? to_text(runtime, parameters[0]) : "";
  const bool by_attribute = parameters.given(1) && !parameters[1].is(Kind::kNone);
  std::string out;
  bool first = true;
  Iterator iterator(runtime, value);
  Value item;
  while (iterator.next(&item)) {
    if (by_attribute) item = look_up_path(runtime, item, parameters[1]);
    if (!first) out += separator;
    first = false;
    out += to_text(runtime, item);
    if (out.size() > runtime.limits().output_bytes) break;
  }
  return runtime.text(std::move(out));
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"capitalize", by_method<kCapitalize>},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"join", filter_join},
    {"lower", by_method<kLower>},
    {"replace", filter_replace},
    {"safe", filter_safe},
    {"string", filter_string},
    {"title", filter_title},
    {"trim", filter_trim},
    {"upper", by_method<kUpper>},
    {"wordcount", filter_wordcount},
};

}  // namespace

Filter find_text_filter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace liquidgemm::chat
