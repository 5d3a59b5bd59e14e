#include "model/tokenizer/pre_tokenizer.h"

namespace liquidgemm {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::uint8_t kNone = 0;  // the class mask of [^\s\p{L}\p{N}]
constexpr std::uint8_t kMask = kLetter | kNumber | kSpace;

// A place in the text and what stands there. At the end of the text `length` is 0.
struct Cursor {
  Cursor(std::string_view text, std::size_t position) : text(text), position(position) { load(); }

  bool at_end() const { return point.length == 0; }
  bool is(std::uint8_t mask) const { return !at_end() && classes == mask; }
  bool is_newline() const { return point.value == '\r' || point.value == '\n'; }
  void advance() {
    position += point.length;
    load();
  }
  void load() {
    point = position < text.size() ? code_point_at(text, position) : CodePoint{};
    classes = unicode_class(point.value) & kMask;
  }

  std::string_view text;
  std::size_t position;
  CodePoint point;
  std::uint8_t classes = 0;
};

std::size_t run_end(Cursor cursor, std::uint8_t mask) {
  while (cursor.is(mask)) cursor.advance();
  return cursor.position;
}

// 's 't 're 've 'm 'll 'd after an apostrophe at `start`; 0 when there is none. Ignoring case,
// the long s (U+017F) is an s too.
std::size_t contraction_length(std::string_view text, std::size_t start, bool ignore_case) {
  const auto at = [&](std::size_t i) {
    const char c = start + i < text.size() ? text[start + i] : '\0';
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  if (at(0) != '\'') return 0;
  const char first = at(1);
  const char second = at(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (ignore_case && first == '\xc5' && second == '\xbf') return 3;
  return 0;
}

// `\s+(?!\S)|\s+` from a space: the whole run at the end of the text, otherwise all but its last
// character, which belongs to the next word; a lone one stands for itself.
std::size_t space_end(Cursor cursor) {
  const std::size_t start = cursor.position;
  std::size_t last = start;
  while (cursor.is(kSpace)) {
    last = cursor.position;
    cursor.advance();
  }
  return cursor.at_end() || last == start ? cursor.position : last;
}

std::size_t gpt2_word_end(std::string_view text, std::size_t start) {
  if (const std::size_t n = contraction_length(text, start, false)) return start + n;
  Cursor cursor(text, start);
  if (cursor.point.value == ' ') {
    Cursor next = cursor;
    next.advance();
    if (!next.at_end() && next.classes != kSpace) return run_end(next, next.classes);
  }
  if (cursor.is(kSpace)) return space_end(cursor);
  return run_end(cursor, cursor.classes);
}

std::size_t symbols_end(const Cursor& cursor) {
  Cursor end(cursor.text, run_end(cursor, kNone));
  while (end.is_newline()) end.advance();
  return end.position;
}

// Llama 3 and Qwen 2 differ only in how many digits make a word.
std::size_t modern_word_end(std::string_view text, std::size_t start, int max_digits) {
  if (const std::size_t n = contraction_length(text, start, true)) return start + n;
  Cursor cursor(text, start);
  if (cursor.is(kLetter)) return run_end(cursor, kLetter);
  if (cursor.is(kNumber)) {
    for (int i = 0; i < max_digits && cursor.is(kNumber); ++i) cursor.advance();
    return cursor.position;
  }
  Cursor next = cursor;
  next.advance();
  // Any one character but a newline may lead a word of letters; only a space may lead symbols.
  if (next.is(kLetter) && !cursor.is_newline()) return run_end(next, kLetter);
  if (cursor.is(kNone)) return symbols_end(cursor);
  if (cursor.point.value == ' ' && next.is(kNone)) return symbols_end(next);

  // `\s*[\r\n]+`: white space up to and with its last newline.
  std::size_t newline_end = 0;
  for (Cursor scan = cursor; scan.is(kSpace); scan.advance()) {
    if (scan.is_newline()) newline_end = scan.position + 1;
  }
  return newline_end != 0 ? newline_end : space_end(cursor);
}

}  // namespace

std::size_t word_end(PreTokenizer kind, std::string_view text, std::size_t start) {
  switch (kind) {
    case PreTokenizer::kGpt2:
    case PreTokenizer::kSmolLm: return gpt2_word_end(text, start);
    case PreTokenizer::kLlama3: return modern_word_end(text, start, 3);
    case PreTokenizer::kQwen2: return modern_word_end(text, start, 1);
  }
  return text.size();
}

}  // namespace liquidgemm
