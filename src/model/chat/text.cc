#include "model/chat/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace liquidgemm::chat {
namespace {

constexpr char32_t kStrayByte = 0xDC00;

bool is_stray(char32_t c) { return c >= kStrayByte + 0x80 && c <= kStrayByte + 0xFF; }

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_letter_category(utf8proc_category_t c) {
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

// The few characters in daily use whose capital form is more than one character.
const char* long_upper(char32_t c, bool title) {
  switch (c) {
    case 0xDF: return title ? "Ss" : "SS";
    case 0x149: return "\u02BCN";
    case 0x1F0: return "J\u030C";
    case 0xFB00: return title ? "Ff" : "FF";
    case 0xFB01: return title ? "Fi" : "FI";
    case 0xFB02: return title ? "Fl" : "FL";
    case 0xFB03: return title ? "Ffi" : "FFI";
    case 0xFB04: return title ? "Ffl" : "FFL";
    case 0xFB05: return title ? "St" : "ST";
    case 0xFB06: return title ? "St" : "ST";
    default: return nullptr;
  }
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& i) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(i);
  if (lead < 0x80) {
    ++i;
    return lead;
  }
  utf8proc_int32_t c = 0;
  const auto size = utf8proc_iterate(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data() + i),
      static_cast<utf8proc_ssize_t>(std::min<std::size_t>(4, text.size() - i)), &c);
  if (size <= 0) {
    ++i;
    return kStrayByte + lead;
  }
  i += static_cast<std::size_t>(size);
  return static_cast<char32_t>(c);
}

void append_code_point(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (is_stray(c)) {
    out.push_back(static_cast<char>(c - kStrayByte));
  } else {
    utf8proc_uint8_t bytes[4];
    const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  }
}

std::size_t count_code_points(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++count) next_code_point(text, i);
  return count;
}

std::vector<std::size_t> code_point_offsets(std::string_view text) {
  std::vector<std::size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (std::size_t i = 0; i < text.size();) {
    offsets.push_back(i);
    next_code_point(text, i);
  }
  offsets.push_back(text.size());
  return offsets;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (is_stray(next_code_point(text, i))) return false;
  }
  return true;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  const auto kind = category(c);
  return kind != UTF8PROC_CATEGORY_CN && kind < UTF8PROC_CATEGORY_ZS;
}

bool is_letter(char32_t c) { return is_letter_category(category(c)); }
bool is_digit(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}
bool is_upper(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }
bool is_word(char32_t c) {
  if (c < 0x80) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }
  return is_letter(c) || is_numeric(c);
}

void append_upper(std::string& out, char32_t c) {
  if (const char* text = long_upper(c, false)) {
    out += text;
  } else {
    append_code_point(out, static_cast<char32_t>(utf8proc_toupper(static_cast<int>(c))));
  }
}

void append_lower(std::string& out, char32_t c) {
  if (c == 0x130) {
    out += "i\u0307";
  } else {
    append_code_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int>(c))));
  }
}

void append_title(std::string& out, char32_t c) {
  if (const char* text = long_upper(c, true)) {
    out += text;
  } else {
    append_code_point(out, static_cast<char32_t>(utf8proc_totitle(static_cast<int>(c))));
  }
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) append_upper(out, next_code_point(text, i));
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) append_lower(out, next_code_point(text, i));
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  std::size_t i = 0;
  if (!text.empty()) append_title(out, next_code_point(text, i));
  while (i < text.size()) append_lower(out, next_code_point(text, i));
  return out;
}

std::string_view strip(std::string_view text, const std::string_view* set, bool left, bool right) {
  std::vector<char32_t> wanted;
  if (set != nullptr) {
    for (std::size_t i = 0; i < set->size();) wanted.push_back(next_code_point(*set, i));
    std::sort(wanted.begin(), wanted.end());
  }
  const auto drop = [&](char32_t c) {
    return set == nullptr ? is_space(c) : std::binary_search(wanted.begin(), wanted.end(), c);
  };
  std::size_t begin = 0;
  while (left && begin < text.size()) {
    std::size_t i = begin;
    if (!drop(next_code_point(text, i))) break;
    begin = i;
  }
  std::size_t end = text.size();
  while (right && end > begin) {
    // Step back over the continuation bytes of one character, or over one stray byte.
    std::size_t start = end - 1;
    while (start > begin && end - start < 4 &&
           (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    std::size_t i = start;
    char32_t c = next_code_point(text, i);
    if (i != end) {
      start = i = end - 1;
      c = kStrayByte + static_cast<unsigned char>(text[start]);
    }
    if (!drop(c)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // std::string::find takes quadratic time on "aaaa...b"; memmem's two-way search does not.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

std::size_t find_last_text(std::string_view text, std::string_view needle) {
  if (needle.size() > text.size()) return std::string_view::npos;
  if (needle.empty()) return text.size();
  const std::string reversed(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const std::size_t found = find_text(reversed, reversed_needle);
  if (found == std::string_view::npos) return found;
  return text.size() - found - needle.size();
}

}  // namespace liquidgemm::chat
