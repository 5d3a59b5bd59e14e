// Methods of strings.

#include <algorithm>
#include <array>

#include "model/chat/filters.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

using Method = Value (*)(Runtime&, const Value&, const CallArguments&);

constexpr std::size_t kEnd = std::string_view::npos;

Value like(Runtime& runtime, const Value& self, std::string text) {
  return runtime.text(std::move(text), self.is_markup());
}

// The part [start, stop) that find, count, startswith and endswith look at; false when `start`
// lies behind the end. `base` is the number of characters before it.
bool window(Runtime& runtime, const std::string& text, const Value& start, const Value& stop,
            std::string_view* part, std::int64_t* base) {
  *part = text;
  *base = 0;
  const auto bound = [](const Value& value) {
    return value.is(Kind::kUndefined) || value.is(Kind::kNone) || value.is_integral();
  };
  if (!bound(start) || !bound(stop)) {
    runtime.fail("slice indices must be integers or None");
    return false;
  }
  if (!start.is_integral() && !stop.is_integral()) return true;
  if (!runtime.charge(text.size() * 8)) return false;
  const auto offsets = code_point_offsets(text);
  const auto size = static_cast<std::int64_t>(offsets.size()) - 1;
  const auto place = [&](const Value& value, std::int64_t otherwise) {
    if (!value.is_integral()) return otherwise;
    const std::int64_t at = value.as_int();
    return at < 0 ? std::max<std::int64_t>(0, std::max(at, -size) + size) : at;
  };
  const std::int64_t from = place(start, 0);
  const std::int64_t to = std::min(place(stop, size), size);
  if (from > size || from > to) return false;
  *base = from;
  const std::size_t begin = offsets[static_cast<std::size_t>(from)];
  *part = std::string_view(text).substr(begin, offsets[static_cast<std::size_t>(to)] - begin);
  return true;
}

Value search(Runtime& runtime, const Value& self, const CallArguments& arguments, bool last,
             bool must) {
  Parameters parameters(runtime, must ? "index" : "find", arguments, {"sub", "start", "end"}, 1);
  const std::string sub = parameters.string(0, "");
  std::string_view part;
  std::int64_t base = 0;
  if (!parameters.ok() || !runtime.charge(self.as_string().size() * (last ? 2 : 1))) return {};
  std::size_t at = kEnd;
  if (window(runtime, self.as_string(), parameters[1], parameters[2], &part, &base)) {
    at = last ? find_last_text(part, sub) : find_text(part, sub);
  }
  if (at == kEnd && must) return runtime.fail("substring not found");
  if (at == kEnd) return Value::integer(-1);
  return Value::integer(base + static_cast<std::int64_t>(count_code_points(part.substr(0, at))));
}

Value affix(Runtime& runtime, const Value& self, const CallArguments& arguments, bool start) {
  Parameters parameters(runtime, start ? "startswith" : "endswith", arguments,
                        {"prefix", "start", "end"}, 1);
  if (!parameters.ok()) return {};
  std::vector<Value> options;
  if (parameters[0].is(Kind::kTuple)) {
    options = parameters[0].items();
  } else {
    options.push_back(parameters[0]);
  }
  std::string_view part;
  std::int64_t base = 0;
  const bool inside = window(runtime, self.as_string(), parameters[1], parameters[2], &part, &base);
  for (const Value& option : options) {
    if (!option.is(Kind::kString)) {
      if (runtime.failed()) return {};
      return runtime.fail(std::string(start ? "startswith" : "endswith") +
                          " needs a string or a tuple of strings, found " + option.type_name());
    }
    if (!runtime.charge(option.as_string().size())) return {};
    const std::string& text = option.as_string();
    if (inside && (start ? part.starts_with(text) : part.ends_with(text))) {
      return Value::boolean(true);
    }
  }
  return Value::boolean(false);
}

Value stripped(Runtime& runtime, const Value& self, const CallArguments& arguments, bool left,
               bool right) {
  Parameters parameters(runtime, "strip", arguments, {"chars"});
  if (!parameters.given(0) || parameters[0].is(Kind::kNone)) {
    if (!parameters.ok()) return {};
    return like(runtime, self, std::string(strip(self.as_string(), nullptr, left, right)));
  }
  const std::string chars = parameters.string(0, "");
  if (!parameters.ok() || !runtime.charge(self.as_string().size())) return {};
  const std::string_view set = chars;
  return like(runtime, self, std::string(strip(self.as_string(), &set, left, right)));
}

// The pieces between white space. After `limit` cuts (-1: no limit) the rest stays whole.
std::vector<std::string_view> split_space(std::string_view text, std::int64_t limit,
                                          bool from_right) {
  std::vector<std::string_view> pieces;
  std::string_view rest = strip(text, nullptr, true, false);
  while (!rest.empty()) {
    if (!from_right && limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      pieces.push_back(rest);
      break;
    }
    std::size_t end = 0;
    while (end < rest.size()) {
      std::size_t next = end;
      if (is_space(next_code_point(rest, next))) break;
      end = next;
    }
    pieces.push_back(rest.substr(0, end));
    rest = strip(rest.substr(end), nullptr, true, false);
  }
  const auto cuts = static_cast<std::size_t>(std::max<std::int64_t>(limit, 0));
  if (from_right && limit >= 0 && pieces.size() > cuts + 1) {
    // The first pieces stay together, with the white space in front of them.
    const std::string_view last = pieces[pieces.size() - cuts - 1];
    const auto whole = static_cast<std::size_t>(last.data() + last.size() - text.data());
    pieces.erase(pieces.begin(), pieces.end() - static_cast<std::ptrdiff_t>(cuts) - 1);
    pieces[0] = text.substr(0, whole);
  }
  return pieces;
}

// The pieces between separators, at most `limit` cuts (-1: no limit).
std::vector<std::string_view> split_at(Runtime& runtime, std::string_view text,
                                       std::string_view separator, std::int64_t limit) {
  std::vector<std::string_view> pieces;
  while (limit != 0 && runtime.step()) {
    const std::size_t at = find_text(text, separator);
    if (at == kEnd) break;
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
    if (limit > 0) --limit;
  }
  pieces.push_back(text);
  return pieces;
}

Value split(Runtime& runtime, const Value& self, const CallArguments& arguments, bool from_right) {
  Parameters parameters(runtime, "split", arguments, {"sep", "maxsplit"});
  const std::int64_t limit = std::max<std::int64_t>(parameters.integer(1, -1), -1);
  const std::string& text = self.as_string();
  if (!parameters.ok() || !runtime.charge(text.size())) return {};
  std::vector<std::string_view> pieces;
  std::string backwards;
  if (!parameters.given(0) || parameters[0].is(Kind::kNone)) {
    pieces = split_space(text, limit, from_right);
  } else {
    std::string separator = parameters.string(0, "");
    if (!parameters.ok()) return {};
    if (separator.empty()) return runtime.fail("empty separator");
    if (from_right) {
      // From the right is from the left in the reversed text; the pieces are then turned back.
      backwards.assign(text.rbegin(), text.rend());
      std::reverse(separator.begin(), separator.end());
      for (const std::string_view piece : split_at(runtime, backwards, separator, limit)) {
        const auto end = text.size() - static_cast<std::size_t>(piece.data() - backwards.data());
        pieces.push_back(std::string_view(text).substr(end - piece.size(), piece.size()));
      }
      std::reverse(pieces.begin(), pieces.end());
    } else {
      pieces = split_at(runtime, text, separator, limit);
    }
  }
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    items.push_back(like(runtime, self, std::string(piece)));
    if (runtime.failed()) return {};
  }
  return runtime.list(std::move(items));
}

Value split_lines(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  Parameters parameters(runtime, "splitlines", arguments, {"keepends"});
  const bool keep = parameters.truth(0, false);
  const std::string& text = self.as_string();
  if (!parameters.ok() || !runtime.charge(text.size())) return {};
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    const char32_t c = next_code_point(text, i);
    const bool line_break = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                            c == 0x2028 || c == 0x2029;
    if (!line_break) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(like(runtime, self, text.substr(begin, (keep ? i : at) - begin)));
    if (runtime.failed()) return {};
    begin = i;
  }
  if (begin < text.size()) lines.push_back(like(runtime, self, text.substr(begin)));
  return runtime.list(std::move(lines));
}

Value replace(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  Parameters parameters(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  const std::string old_text = parameters.string(0, "");
  std::string new_text = parameters.string(1, "");
  std::int64_t limit = parameters.integer(2, -1);
  const std::string& text = self.as_string();
  if (!parameters.ok() || !runtime.charge(text.size())) return {};
  // Escaped text takes in only escaped text.
  if (self.is_markup() && !parameters[1].is_markup()) new_text = escape_html(new_text);
  std::string out;
  std::size_t at = 0;
  while (limit != 0 && runtime.step()) {
    std::size_t found = at;
    if (!old_text.empty()) {
      found = find_text(text, old_text, at);
      if (found == kEnd) break;
      out.append(text, at, found - at);
      at = found + old_text.size();
      out += new_text;
    } else {
      // An empty text is found before every character and at the end.
      out += new_text;
      if (at >= text.size()) {
        at = text.size();
        break;
      }
      std::size_t next = at;
      next_code_point(text, next);
      out.append(text, at, next - at);
      at = next;
    }
    if (limit > 0) --limit;
    if (out.size() > runtime.limits().output_bytes) break;
  }
  if (at < text.size()) out.append(text, at);
  return like(runtime, self, std::move(out));
}

Value count(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  Parameters parameters(runtime, "count", arguments, {"sub", "start", "end"}, 1);
  const std::string sub = parameters.string(0, "");
  std::string_view part;
  std::int64_t base = 0;
  if (!parameters.ok() || !runtime.charge(self.as_string().size())) return {};
  if (!window(runtime, self.as_string(), parameters[1], parameters[2], &part, &base)) {
    return Value::integer(0);
  }
  if (sub.empty()) return Value::integer(static_cast<std::int64_t>(count_code_points(part)) + 1);
  std::int64_t found = 0;
  for (std::size_t at = find_text(part, sub); at != kEnd;
       at = find_text(part, sub, at + sub.size())) {
    ++found;
  }
  return Value::integer(found);
}

Value join(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  Parameters parameters(runtime, "join", arguments, {"iterable"}, 1);
  if (!parameters.ok()) return {};
  std::string out;
  bool first = true;
  Iterator iterator(runtime, parameters[0]);
  Value item;
  while (iterator.next(&item)) {
    if (!item.is(Kind::kString) && !self.is_markup()) {
      return runtime.fail(std::string("join needs strings, found ") + item.type_name());
    }
    if (!first) out += self.as_string();
    first = false;
    const std::string text = to_text(runtime, item);
    out += self.is_markup() && !item.is_markup() ? escape_html(text) : text;
    if (!runtime.charge(text.size())) return {};
    if (out.size() > runtime.limits().output_bytes) break;
  }
  return like(runtime, self, std::move(out));
}

// In each run of letters the first is a capital: "don't" becomes "Don'T", as Python has it.
Value title(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  const Parameters parameters(runtime, "title", arguments, {});
  if (!runtime.charge(self.as_string().size())) return {};
  std::string out;
  bool inside = false;
  for (std::size_t i = 0; i < self.as_string().size();) {
    const char32_t c = next_code_point(self.as_string(), i);
    inside ? append_lower(out, c) : append_title(out, c);
    inside = is_upper(c) || is_lower(c);
  }
  return like(runtime, self, std::move(out));
}

template <std::string (*kMap)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  const Parameters parameters(runtime, "this method", arguments, {});
  if (!parameters.ok() || !runtime.charge(self.as_string().size())) return {};
  return like(runtime, self, kMap(self.as_string()));
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    is_upper(c) ? append_lower(out, c) : append_upper(out, c);
  }
  return out;
}

template <bool (*kHolds)(char32_t)>
Value all_are(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  const Parameters parameters(runtime, "this method", arguments, {});
  const std::string& text = self.as_string();
  if (!parameters.ok() || !runtime.charge(text.size())) return {};
  for (std::size_t i = 0; i < text.size();) {
    if (!kHolds(next_code_point(text, i))) return Value::boolean(false);
  }
  return Value::boolean(!text.empty());
}

bool is_letter_or_number(char32_t c) { return is_letter(c) || is_numeric(c); }

template <bool kUpper>
Value cased(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  const Parameters parameters(runtime, "this method", arguments, {});
  if (!parameters.ok()) return {};
  return Value::boolean(apply_test(runtime, kUpper ? "upper" : "lower", self, {}));
}

Value padded(Runtime& runtime, const Value& self, const CallArguments& arguments, double left) {
  Parameters parameters(runtime, "padding", arguments, {"width", "fillchar"}, 1);
  const std::int64_t width = parameters.integer(0, 0);
  const std::string fill = parameters.string(1, " ");
  if (!parameters.ok()) return {};
  if (count_code_points(fill) != 1) return runtime.fail("the fill character must be one character");
  const auto size = static_cast<std::int64_t>(count_code_points(self.as_string()));
  if (width <= size) return self;
  const std::int64_t missing = width - size;
  if (!runtime.fits(static_cast<std::size_t>(std::min<std::int64_t>(missing, 1 << 30)) *
                    fill.size())) {
    return {};
  }
  // Of an odd margin, Python's center gives the extra one to the left if the width is odd too.
  const std::int64_t before = left == 0.5 ? missing / 2 + (missing & width & 1)
                              : left == 1 ? missing
                                          : 0;
  std::string out;
  for (std::int64_t i = 0; i < before; ++i) out += fill;
  out += self.as_string();
  for (std::int64_t i = before; i < missing; ++i) out += fill;
  return like(runtime, self, std::move(out));
}

Value zero_filled(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  Parameters parameters(runtime, "zfill", arguments, {"width"}, 1);
  if (!parameters.ok()) return {};
  CallArguments rest;
  rest.positional = {parameters[0], Value::string("0")};
  const std::string& text = self.as_string();
  const bool sign = text.starts_with('-') || text.starts_with('+');
  const Value out = padded(runtime, self, rest, 1);
  if (runtime.failed() || !sign) return out;
  std::string moved = out.as_string();
  const std::size_t zeros = moved.size() - text.size();
  if (zeros > 0) {
    moved[0] = text[0];
    moved[zeros] = '0';
  }
  return like(runtime, self, std::move(moved));
}

Value partitioned(Runtime& runtime, const Value& self, const CallArguments& arguments, bool last) {
  Parameters parameters(runtime, "partition", arguments, {"sep"}, 1);
  const std::string separator = parameters.string(0, "");
  if (!parameters.ok()) return {};
  if (separator.empty()) return runtime.fail("empty separator");
  const std::string& text = self.as_string();
  const std::size_t at = last ? find_last_text(text, separator) : find_text(text, separator);
  std::vector<Value> parts(3, like(runtime, self, ""));
  if (at == kEnd) {
    parts[last ? 2 : 0] = self;
  } else {
    parts[0] = like(runtime, self, text.substr(0, at));
    parts[1] = like(runtime, self, separator);
    parts[2] = like(runtime, self, text.substr(at + separator.size()));
  }
  return runtime.sequence(Kind::kTuple, std::move(parts));
}

Value removed(Runtime& runtime, const Value& self, const CallArguments& arguments, bool prefix) {
  Parameters parameters(runtime, prefix ? "removeprefix" : "removesuffix", arguments, {"affix"}, 1);
  const std::string part = parameters.string(0, "");
  if (!parameters.ok()) return {};
  std::string_view text = self.as_string();
  if (prefix && text.starts_with(part)) text.remove_prefix(part.size());
  if (!prefix && text.ends_with(part)) text.remove_suffix(part.size());
  return like(runtime, self, std::string(text));
}

Value format(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  return format_braces(runtime, self.as_string(), arguments);
}

template <Value (*kFunction)(Runtime&, const Value&, const CallArguments&, bool), bool kFlag>
Value flagged(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  return kFunction(runtime, self, arguments, kFlag);
}

template <bool kLast, bool kMust>
Value searched(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  return search(runtime, self, arguments, kLast, kMust);
}

template <bool kLeft, bool kRight>
Value strip_sides(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  return stripped(runtime, self, arguments, kLeft, kRight);
}

struct Entry {
  std::string_view name;
  Method method;  // nullptr: Python has it, chat templates do not need it
};
constexpr Entry kMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"casefold", nullptr},
    {"center",
     [](Runtime& r, const Value& s, const CallArguments& a) { return padded(r, s, a, 0.5); }},
    {"count", count},
    {"encode", nullptr},
    {"endswith", flagged<affix, false>},
    {"expandtabs", nullptr},
    {"find", searched<false, false>},
    {"format", format},
    {"format_map", nullptr},
    {"index", searched<false, true>},
    {"isalnum", all_are<is_letter_or_number>},
    {"isalpha", all_are<is_letter>},
    {"isascii", nullptr},
    {"isdecimal", all_are<is_digit>},
    {"isdigit", all_are<is_digit>},
    {"isidentifier", nullptr},
    {"islower", cased<false>},
    {"isnumeric", all_are<is_numeric>},
    {"isprintable", nullptr},
    {"isspace", all_are<is_space>},
    {"istitle", nullptr},
    {"isupper", cased<true>},
    {"join", join},
    {"ljust",
     [](Runtime& r, const Value& s, const CallArguments& a) { return padded(r, s, a, 0); }},
    {"lower", mapped<to_lower>},
    {"lstrip", strip_sides<true, false>},
    {"maketrans", nullptr},
    {"partition", flagged<partitioned, false>},
    {"removeprefix", flagged<removed, true>},
    {"removesuffix", flagged<removed, false>},
    {"replace", replace},
    {"rfind", searched<true, false>},
    {"rindex", searched<true, true>},
    {"rjust",
     [](Runtime& r, const Value& s, const CallArguments& a) { return padded(r, s, a, 1); }},
    {"rpartition", flagged<partitioned, true>},
    {"rsplit", flagged<split, true>},
    {"rstrip", strip_sides<false, true>},
    {"split", flagged<split, false>},
    {"splitlines", split_lines},
    {"startswith", flagged<affix, true>},
    {"strip", strip_sides<true, true>},
    {"swapcase", mapped<swap_case>},
    {"title", title},
    {"translate", nullptr},
    {"upper", mapped<to_upper>},
    {"zfill", zero_filled},
};

const Entry* find_method(std::string_view name) {
  for (const Entry& entry : kMethods) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

bool is_string_method(std::string_view name) { return find_method(name) != nullptr; }

Value call_string_method(Runtime& runtime, const Value& self, const std::string& name,
                         const CallArguments& arguments) {
  const Entry* entry = find_method(name);
  if (entry == nullptr || entry->method == nullptr) {
    return runtime.fail(StatusCode::kUnsupported,
                        "the method '" + name + "' of strings is not supported in chat templates");
  }
  if (runtime.failed()) return {};
  return entry->method(runtime, self, arguments);
}

}  // namespace liquidgemm::chat
