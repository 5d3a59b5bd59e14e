// Values as text: str(), repr() and JSON, each as Python writes them.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "model/chat/filters.h"
#include "model/chat/interpreter.h"
#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

std::string quoted_text(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos;
  const bool twofold = text.find('"') != std::string_view::npos;
  const char quote = single && !twofold ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out.append(text.substr(begin, i - begin));
    } else {
      char escape[12];
      std::snprintf(escape, sizeof(escape),
                    c < 0x100     ? "\\x%02x"
                    : c < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    static_cast<unsigned>(c));
      out += escape;
    }
  }
  out.push_back(quote);
  return out;
}

// Writes into one growing text, so that nothing is copied at each level of nesting.
class Writer {
 public:
  explicit Writer(Runtime& runtime) : runtime_(runtime) {}

  std::string take() { return runtime_.failed() ? std::string() : std::move(out_); }

  void repr(const Value& value) {
    if (!runtime_.step()) return;
    const Depth depth(runtime_);
    if (!depth.ok()) return;
    switch (value.kind()) {
      case Kind::kUndefined: return add("Undefined");
      case Kind::kNone: return add("None");
      case Kind::kBool: return add(value.as_bool() ? "True" : "False");
      case Kind::kInt: return add(std::to_string(value.as_int()));
      case Kind::kFloat: return add(real_text(value.as_real()));
      case Kind::kString:
        if (!runtime_.charge(value.as_string().size())) return;
        if (value.is_markup()) return add("Markup(" + quoted_text(value.as_string()) + ")");
        return add(quoted_text(value.as_string()));
      case Kind::kList: return items(value, "[", "]");
      case Kind::kTuple: return items(value, "(", value.items().size() == 1 ? ",)" : ")");
      case Kind::kView: add(value.as_sequence().label); return items(value, "([", "])");
      case Kind::kGenerator: return add("<generator object>");
      case Kind::kDict: return dict(value.as_dict());
      case Kind::kRange: {
        const Range& range = value.as_range();
        add("range(" + std::to_string(range.start) + ", " + std::to_string(range.stop));
        return add(range.step == 1 ? ")" : ", " + std::to_string(range.step) + ")");
      }
      case Kind::kMethod:
        return add("<built-in method " + value.as_method().name + " of " +
                   value.as_method().self.type_name() + " object>");
      case Kind::kFunction: return add("<function>");
      case Kind::kNamespace:
        add("<Namespace ");
        dict(value.as_namespace()->attributes);
        return add(">");
      case Kind::kMacro: return add("<Macro '" + value.as_macro()->definition->name + "'>");
      case Kind::kLoop: return add(loop_text(runtime_, *value.as_loop()));
    }
  }

 private:
  void add(std::string_view text) {
    out_ += text;
    if (out_.size() > runtime_.limits().output_bytes) runtime_.fits(out_.size());
  }
  void items(const Value& value, std::string_view open, std::string_view close) {
    add(open);
    bool first = true;
    for (const Value& item : value.items()) {
      if (runtime_.failed()) return;
      if (!first) add(", ");
      first = false;
      repr(item);
    }
    add(close);
  }
  void dict(const Dict& dict) {
    add("{");
    bool first = true;
    for (const auto& [key, value] : dict.entries) {
      if (runtime_.failed()) return;
      if (!first) add(", ");
      first = false;
      repr(key);
      add(": ");
      repr(value);
    }
    add("}");
  }

  Runtime& runtime_;
  std::string out_;
};

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  std::string take() { return runtime_.failed() ? std::string() : std::move(out_); }

  void write(const Value& value, int level) {
    if (!runtime_.step()) return;
    switch (value.kind()) {
      case Kind::kNone: return add("null");
      case Kind::kBool: return add(value.as_bool() ? "true" : "false");
      case Kind::kInt: return add(std::to_string(value.as_int()));
      case Kind::kFloat: return add(real(value.as_real()));
      case Kind::kString: return string(value.as_string());
      case Kind::kList:
      case Kind::kTuple: {
        if (value.items().empty()) return add("[]");
        add("[");
        bool first = true;
        for (const Value& item : value.items()) {
          if (runtime_.failed()) return;
          begin_item(first, level);
          write(item, level + 1);
        }
        end_items(level);
        return add("]");
      }
      case Kind::kDict: return dict(value.as_dict(), level);
      default:
        runtime_.fail(std::string("Object of type ") + value.type_name() +
                      " is not JSON serializable");
    }
  }

 private:
  static std::string real(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return real_text(value);
  }
  void add(std::string_view text) {
    out_ += text;
    if (out_.size() > runtime_.limits().output_bytes) runtime_.fits(out_.size());
  }
  void new_line(int level) {
    if (!style_.pretty) return;
    add("\n");
    for (int i = 0; i < level && !runtime_.failed(); ++i) add(style_.indent);
  }
  void begin_item(bool& first, int level) {
    if (!first) add(style_.item_separator);
    first = false;
    new_line(level + 1);
  }
  void end_items(int level) { new_line(level); }

  void string(std::string_view text) {
    if (!runtime_.charge(text.size())) return;
    std::string quoted = "\"";
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      const char32_t c = next_code_point(text, i);
      switch (c) {
        case '"': quoted += "\\\""; continue;
        case '\\': quoted += "\\\\"; continue;
        case '\n': quoted += "\\n"; continue;
        case '\r': quoted += "\\r"; continue;
        case '\t': quoted += "\\t"; continue;
        case '\b': quoted += "\\b"; continue;
        case '\f': quoted += "\\f"; continue;
        default: break;
      }
      if (c >= 0x20 && (c < 0x7F || !style_.ascii)) {
        quoted.append(text.substr(begin, i - begin));
      } else if (c < 0x10000) {
        unicode_escape(quoted, c);
      } else {
        unicode_escape(quoted, 0xD800 + ((c - 0x10000) >> 10));
        unicode_escape(quoted, 0xDC00 + ((c - 0x10000) & 0x3FF));
      }
    }
    quoted.push_back('"');
    add(quoted);
  }
  static void unicode_escape(std::string& out, char32_t unit) {
    char escape[8];
    std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(unit & 0xFFFF));
    out += escape;
  }

  void dict(const Dict& dict, int level) {
    if (dict.entries.empty()) return add("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return less(runtime_, a->first, b->first);
      });
    }
    add("{");
    bool first = true;
    for (const auto* entry : entries) {
      if (runtime_.failed()) return;
      begin_item(first, level);
      const Value& key = entry->first;
      switch (key.kind()) {
        case Kind::kString: string(key.as_string()); break;
        case Kind::kBool: string(key.as_bool() ? "true" : "false"); break;
        case Kind::kNone: string("null"); break;
        case Kind::kInt: string(std::to_string(key.as_int())); break;
        case Kind::kFloat: string(real(key.as_real())); break;
        default:
          runtime_.fail("keys must be str, int, float, bool or None, not " +
                        std::string(key.type_name()));
          return;
      }
      add(style_.key_separator);
      write(entry->second, level + 1);
    }
    end_items(level);
    add("}");
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The shortest digits that read back as the same number, with an exponent where Python has one.
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t mark = text.find('e');
  int exponent = 0;
  const char* digits_of_exponent = buffer + mark + (text[mark + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const bool negative = text[0] == '-';
  std::string digits;
  for (const char c : text.substr(0, mark)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  std::string out = negative ? "-" : "";
  if (exponent < 0) {
    out += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    return out;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) {
    return out + digits + std::string(whole - digits.size(), '0') + ".0";
  }
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string to_text(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kString)) return value.as_string();
  if (value.is(Kind::kUndefined)) return {};
  return to_repr(runtime, value);
}

std::string to_repr(Runtime& runtime, const Value& value) {
  Writer writer(runtime);
  writer.repr(value);
  return writer.take();
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.write(value, 0);
  return writer.take();
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out.push_back(c);
    }
  }
  return out;
}

}  // namespace liquidgemm::chat
