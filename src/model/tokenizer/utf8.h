// Reading and repairing UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace liquidgemm {

struct CodePoint {
  char32_t value = 0;
  std::uint32_t length = 0;  // in bytes
};

// The code point at `position`. The text must be valid UTF-8 and `position` a character's first
// byte below text.size().
inline CodePoint code_point_at(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[position + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {(lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f),
          4};
}

// The code point that ends just before `position` (> 0) of valid UTF-8.
CodePoint code_point_before(std::string_view text, std::size_t position);

void append_utf8(char32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view bytes);

// Appends `bytes` to `out` with each maximal part that cannot belong to a character replaced by
// one U+FFFD (the Unicode standard's recommendation, which Rust and Python follow). A character
// that is merely cut off at the end is left alone unless `at_end`. Returns the bytes consumed.
std::size_t append_repaired(std::string_view bytes, bool at_end, std::string& out);

// The whole of it, repaired.
std::string repair_utf8(std::string_view bytes);

}  // namespace liquidgemm
