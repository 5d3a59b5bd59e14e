// Text as Python's str sees it: a sequence of code points, here kept as UTF-8.
//
// Bytes that are not UTF-8 count as one code point each and pass through unchanged, so that no
// input can be lost or read out of bounds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace liquidgemm::chat {

// The code point at `i`, and moves `i` past it. A stray byte b reads as 0xDC00 + b.
char32_t next_code_point(std::string_view text, std::size_t& i);
void append_code_point(std::string& out, char32_t code_point);

std::size_t count_code_points(std::string_view text);
// Where each code point begins, and one more entry for the end.
std::vector<std::size_t> code_point_offsets(std::string_view text);
bool is_ascii(std::string_view text);
bool is_utf8(std::string_view text);

bool is_space(char32_t c);      // str.isspace of one character
bool is_printable(char32_t c);  // what repr() leaves unescaped
bool is_letter(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_word(char32_t c);  // the regular expression \w

void append_upper(std::string& out, char32_t c);
void append_lower(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);

// Without the characters of `set` (white space when empty pointer) at the chosen ends.
std::string_view strip(std::string_view text, const std::string_view* set, bool left, bool right);

// The first place of `needle` at or after `from`, or npos. Linear time, whatever the input.
std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from = 0);
std::size_t find_last_text(std::string_view text, std::string_view needle);

}  // namespace liquidgemm::chat
