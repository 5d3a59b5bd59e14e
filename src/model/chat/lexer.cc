#include "model/chat/lexer.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

bool is_digit_in_base(char c, int base) {
  if (c >= '0' && c <= '9') return c - '0' < base;
  const char lower = static_cast<char>(c | 0x20);
  return base == 16 && lower >= 'a' && lower <= 'f';
}

// Digits, between which single underscores may stand. Returns where they end.
std::size_t scan_digits(std::string_view s, std::size_t i, int base) {
  while (i < s.size()) {
    if (is_digit_in_base(s[i], base)) {
      ++i;
    } else if (s[i] == '_' && i + 1 < s.size() && is_digit_in_base(s[i + 1], base)) {
      i += 2;
    } else {
      break;
    }
  }
  return i;
}

class Lexer {
 public:
  explicit Lexer(const Source& source) : source_(source), s_(source.text) {}

  Result<std::vector<Token>> run() {
    while (error_.ok() && at_ < s_.size()) text_and_tag();
    if (!error_.ok()) return error_;
    push(TokenKind::kEnd, s_.size());
    return std::move(tokens_);
  }

 private:
  bool starts(std::size_t at, std::string_view text) const {
    return at <= s_.size() && s_.compare(at, text.size(), text) == 0;
  }
  std::size_t skip_space(std::size_t i) const {
    while (i < s_.size()) {
      std::size_t next = i;
      if (!is_space(next_code_point(s_, next))) break;
      i = next;
    }
    return i;
  }
  Token& push(TokenKind kind, std::size_t offset) {
    tokens_.emplace_back();
    tokens_.back().kind = kind;
    tokens_.back().offset = offset;
    return tokens_.back();
  }
  void fail(std::size_t offset, std::string_view message) {
    if (error_.ok()) error_ = source_.error(StatusCode::kCorrupt, offset, message);
  }
  // Moves past a tag's end, and notes whether a line begins there.
  void move_to(std::size_t at) {
    at_ = at;
    line_starting_ = at > 0 && s_[at - 1] == '\n';
  }

  // Text up to the next tag. `sign` is the tag's '-', '+' or 0; only block-like tags (not {{ }})
  // take the white space of their own line away.
  void push_text(std::string_view text, std::size_t offset, char sign, bool block_like) {
    if (sign == '-') {
      text = strip(text, nullptr, false, true);
    } else if (sign != '+' && block_like) {
      const std::size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line > 0 || line_starting_) && strip(text.substr(line), nullptr, true, false).empty()) {
        text = text.substr(0, line);
      }
    }
    if (!text.empty()) push(TokenKind::kText, offset).text = std::string(text);
  }

  // The end of a block, comment or raw tag: "+%}", "-%}" with white space, "%}" with one newline.
  std::optional<std::size_t> block_end(std::size_t i, std::string_view close) const {
    if (i < s_.size() && s_[i] == '+' && starts(i + 1, close)) return i + 1 + close.size();
    if (i < s_.size() && s_[i] == '-' && starts(i + 1, close)) {
      return skip_space(i + 1 + close.size());
    }
    if (!starts(i, close)) return std::nullopt;
    i += close.size();
    return i < s_.size() && s_[i] == '\n' ? i + 1 : i;
  }

  char sign_at(std::size_t i) const {
    return i < s_.size() && (s_[i] == '-' || s_[i] == '+') ? s_[i] : '\0';
  }

  void text_and_tag() {
    std::size_t open = at_;
    for (;; ++open) {
      open = s_.find('{', open);
      if (open == std::string_view::npos) {
        push(TokenKind::kText, at_).text = std::string(s_.substr(at_));
        at_ = s_.size();
        return;
      }
      if (starts(open, "{{") || starts(open, "{%") || starts(open, "{#")) break;
    }
    const std::string_view text = s_.substr(at_, open - at_);
    const char kind = s_[open + 1];
    const char sign = sign_at(open + 2);
    push_text(text, at_, sign, kind != '{');
    const std::size_t inside = open + (sign != '\0' ? 3 : 2);
    if (kind == '#') {
      comment(open, inside);
    } else if (kind == '{') {
      push(TokenKind::kPrintBegin, open);
      tag(open, inside, false);
    } else if (const auto body = raw_begin(inside)) {
      raw(open, *body);
    } else {
      push(TokenKind::kBlockBegin, open);
      tag(open, inside, true);
    }
  }

  void comment(std::size_t open, std::size_t inside) {
    const std::size_t close = s_.find("#}", inside);
    if (close == std::string_view::npos) return fail(open, "this comment is never closed");
    const bool signed_end = close > inside && sign_at(close - 1) != '\0';
    move_to(*block_end(signed_end ? close - 1 : close, "#}"));
  }

  std::optional<std::size_t> raw_begin(std::size_t i) const {
    i = skip_space(i);
    if (!starts(i, "raw")) return std::nullopt;
    i = skip_space(i + 3);
    if (starts(i, "-%}")) return skip_space(i + 3);
    if (starts(i, "%}")) return i + 2;
    return std::nullopt;
  }

  void raw(std::size_t open, std::size_t body) {
    move_to(body);
    for (std::size_t i = s_.find("{%", body); i != std::string_view::npos;
         i = s_.find("{%", i + 1)) {
      const char sign = sign_at(i + 2);
      std::size_t name = skip_space(i + (sign != '\0' ? 3 : 2));
      if (!starts(name, "endraw")) continue;
      const auto end = block_end(skip_space(name + 6), "%}");
      if (!end) continue;
      push_text(s_.substr(body, i - body), body, sign, true);
      return move_to(*end);
    }
    fail(open, "this raw block is never closed; {% endraw %} closes it");
  }

  // Tokens up to the tag's end. An end inside brackets is not one: `{{ {'a': {}} }}`.
  void tag(std::size_t open, std::size_t i, bool block) {
    std::string brackets;
    while (error_.ok()) {
      i = skip_space(i);
      if (brackets.empty() && block) {
        if (const auto end = block_end(i, "%}")) {
          push(TokenKind::kBlockEnd, i);
          return move_to(*end);
        }
      } else if (brackets.empty() && (starts(i, "-}}") || starts(i, "}}"))) {
        push(TokenKind::kPrintEnd, i);
        return move_to(s_[i] == '-' ? skip_space(i + 3) : i + 2);
      }
      if (i >= s_.size()) return fail(open, "this tag is never closed");
      token(i, brackets);
    }
  }

  void token(std::size_t& i, std::string& brackets) {
    const char c = s_[i];
    if (c >= '0' && c <= '9') return number(i);
    if (c == '\'' || c == '"') return string(i);
    std::size_t end = i;
    while (end < s_.size()) {
      std::size_t next = end;
      if (!is_word(next_code_point(s_, next))) break;
      end = next;
    }
    if (end > i) {
      push(TokenKind::kName, i).text = std::string(s_.substr(i, end - i));
      i = end;
      return;
    }
    operator_token(i, brackets);
  }

  void operator_token(std::size_t& i, std::string& brackets) {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view name : kOperators) {
      if (!starts(i, name)) continue;
      if (name == "(") brackets.push_back(')');
      if (name == "[") brackets.push_back(']');
      if (name == "{") brackets.push_back('}');
      if (name == ")" || name == "]" || name == "}") {
        if (brackets.empty() || brackets.back() != name[0]) {
          std::string message = "unexpected '" + std::string(name) + "'";
          if (!brackets.empty())
            message += ", expected '" + brackets.substr(brackets.size() - 1) + "'";
          return fail(i, message);
        }
        brackets.pop_back();
      }
      push(TokenKind::kOperator, i).text = std::string(name);
      i += name.size();
      return;
    }
    fail(i, "unexpected character");
  }

  void number(std::size_t& i) {
    const std::size_t begin = i;
    int base = 10;
    std::size_t end = i;
    if (s_[i] == '0' && i + 1 < s_.size()) {
      const char mark = static_cast<char>(s_[i + 1] | 0x20);
      const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (marked != 10) {
        const std::size_t digits = i + 2 + (i + 2 < s_.size() && s_[i + 2] == '_' ? 1 : 0);
        if (scan_digits(s_, digits, marked) > digits) {
          base = marked;
          end = scan_digits(s_, digits, marked);
        }
      }
    }
    bool real = false;
    if (base == 10) {
      end = scan_digits(s_, i, 10);
      const auto digit = [&](std::size_t k) {
        return k < s_.size() && is_digit_in_base(s_[k], 10);
      };
      // "a.1.5" is item 1, then item 5: behind a dot no fraction begins.
      const bool after_dot = begin > 0 && s_[begin - 1] == '.';
      if (!after_dot && end < s_.size() && s_[end] == '.' && digit(end + 1)) {
        real = true;
        end = scan_digits(s_, end + 1, 10);
      }
      if (!after_dot && end < s_.size() && (s_[end] | 0x20) == 'e') {
        const std::size_t exponent = end + 1 + (sign_at(end + 1) != '\0' ? 1 : 0);
        if (digit(exponent)) {
          real = true;
          end = scan_digits(s_, exponent, 10);
        }
      }
      // "007" is a zero, then a seven.
      if (!real && s_[begin] == '0') {
        end = begin + 1;
        while (end < s_.size() &&
               (s_[end] == '0' || (s_[end] == '_' && end + 1 < s_.size() && s_[end + 1] == '0'))) {
          end += s_[end] == '_' ? 2 : 1;
        }
      }
    }
    std::string digits;
    for (const char c : s_.substr(begin, end - begin)) {
      if (c != '_') digits.push_back(c);
    }
    i = end;
    Token& token = push(real ? TokenKind::kFloat : TokenKind::kInteger, begin);
    const char* first = digits.data() + (base == 10 ? 0 : 2);
    const char* last = digits.data() + digits.size();
    if (real) {
      const auto result = std::from_chars(first, last, token.real);
      // Too large reads as infinity in Python, too small as zero; neither is meant.
      if (result.ec != std::errc()) fail(begin, "this number does not fit in a double");
    } else {
      const auto result = std::from_chars(first, last, token.integer, base);
      if (result.ec != std::errc()) fail(begin, "this integer does not fit in 64 bits");
    }
    token.text = std::move(digits);
  }

  void string(std::size_t& i) {
    const std::size_t begin = i;
    const char quote = s_[i++];
    std::string text;
    while (i < s_.size() && s_[i] != quote) {
      if (s_[i] != '\\') {
        text.push_back(s_[i++]);
        continue;
      }
      if (++i >= s_.size()) break;
      if (!escape(i, text)) return;
    }
    if (i >= s_.size()) return fail(begin, "this string is never closed");
    ++i;
    push(TokenKind::kString, begin).text = std::move(text);
  }

  // `i` stands behind the backslash.
  bool escape(std::size_t& i, std::string& text) {
    const std::size_t begin = i - 1;
    const char c = s_[i];
    static constexpr std::string_view kPlain = "\n\\'\"abfnrtv";
    static constexpr std::string_view kMeaning = "\n\\'\"\a\b\f\n\r\t\v";
    const std::size_t plain = kPlain.find(c);
    if (plain != std::string_view::npos) {
      ++i;
      if (c != '\n') text.push_back(kMeaning[plain]);  // a backslash joins two lines
      return true;
    }
    if (c >= '0' && c <= '7') {
      char32_t value = 0;
      for (int n = 0; n < 3 && i < s_.size() && s_[i] >= '0' && s_[i] <= '7'; ++n) {
        value = value * 8 + static_cast<char32_t>(s_[i++] - '0');
      }
      append_code_point(text, value);
      return true;
    }
    const std::size_t width = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (width > 0) {
      ++i;
      std::uint32_t value = 0;
      const std::size_t last = std::min(s_.size(), i + width);
      const auto result = std::from_chars(s_.data() + i, s_.data() + last, value, 16);
      if (result.ec != std::errc() || result.ptr != s_.data() + i + width) {
        fail(begin, "this escape needs " + std::to_string(width) + " hexadecimal digits");
        return false;
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        fail(begin, "this escape is not a character");
        return false;
      }
      i += width;
      append_code_point(text, value);
      return true;
    }
    if (c == 'N') {
      fail(begin, "characters by name are not supported");
      return false;
    }
    text.push_back('\\');
    if (static_cast<unsigned char>(c) < 0x80) {
      text.push_back(c);
      ++i;
      return true;
    }
    // Jinja reads strings through an ASCII form, so a backslash before a character outside ASCII
    // leaves the name of that character.
    const char32_t code_point = next_code_point(s_, i);
    char name[12];
    std::snprintf(name, sizeof(name),
                  code_point < 0x100     ? "x%02x"
                  : code_point < 0x10000 ? "u%04x"
                                         : "U%08x",
                  static_cast<unsigned>(code_point));
    text += name;
    return true;
  }

  const Source& source_;
  const std::string_view s_;
  std::size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
  Status error_;
};

}  // namespace

std::string normalize_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out.push_back(text[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

Result<std::vector<Token>> tokenize(const Source& source) { return Lexer(source).run(); }

}  // namespace liquidgemm::chat
