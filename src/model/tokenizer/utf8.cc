#include "model/tokenizer/utf8.h"

#include <algorithm>

namespace liquidgemm {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

enum class Outcome { kValid, kInvalid, kCutOff };

struct Step {
  Outcome outcome;
  std::size_t length;  // of the character, of the invalid part, or of what is left
};

// Looks at the character that begins at `position`. Only the second byte has bounds that depend
// on the first: they exclude overlong forms, surrogates and values above U+10FFFF.
Step examine(std::string_view bytes, std::size_t position) {
  const auto lead = static_cast<unsigned char>(bytes[position]);
  if (lead < 0x80) return {Outcome::kValid, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Outcome::kInvalid, 1};
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (position + i == bytes.size()) return {Outcome::kCutOff, i};
    unsigned low = 0x80;
    unsigned high = 0xbf;
    if (i == 1) {
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    }
    const auto next = static_cast<unsigned char>(bytes[position + i]);
    if (next < low || next > high) return {Outcome::kInvalid, i};
  }
  return {Outcome::kValid, length};
}

}  // namespace

CodePoint code_point_before(std::string_view text, std::size_t position) {
  std::size_t start = position - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
  return code_point_at(text, start);
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xe0 | code_point >> 12);
    } else {
      put(0xf0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3f));
    }
    put(0x80 | (code_point >> 6 & 0x3f));
  }
  put(0x80 | (code_point & 0x3f));
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t position = 0; position < bytes.size();) {
    const Step step = examine(bytes, position);
    if (step.outcome != Outcome::kValid) return false;
    position += step.length;
  }
  return true;
}

std::size_t append_repaired(std::string_view bytes, bool at_end, std::string& out) {
  std::size_t position = 0;
  while (position < bytes.size()) {
    // Valid text is copied in one piece up to the next problem.
    const std::size_t start = position;
    Step step{Outcome::kValid, 0};
    while (position < bytes.size()) {
      step = examine(bytes, position);
      if (step.outcome != Outcome::kValid) break;
      position += step.length;
    }
    out.append(bytes.substr(start, position - start));
    if (step.outcome == Outcome::kValid) break;
    if (step.outcome == Outcome::kCutOff && !at_end) break;
    out.append(kReplacement);
    position += step.length;
  }
  return position;
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  append_repaired(bytes, /*at_end=*/true, out);
  return out;
}

}  // namespace liquidgemm
