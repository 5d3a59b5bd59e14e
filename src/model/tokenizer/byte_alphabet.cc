#include "model/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<std::int16_t, 0x144> byte{};  // by character; -1 = not of the alphabet
};

// Printable Latin-1 bytes stand for themselves; the others take U+0100, U+0101, ... in order.
Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
    const char32_t character = printable ? static_cast<char32_t>(b) : next++;
    alphabet.character[static_cast<std::size_t>(b)] = character;
    alphabet.byte[character] = static_cast<std::int16_t>(b);
  }
  return alphabet;
}

const Alphabet& alphabet() {
  static const Alphabet instance = make_alphabet();
  return instance;
}

}  // namespace

std::optional<std::string> bytes_of_alphabet_text(std::string_view text) {
  const Alphabet& a = alphabet();
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t position = 0; position < text.size();) {
    const CodePoint point = code_point_at(text, position);
    if (point.value >= a.byte.size() || a.byte[point.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(a.byte[point.value]));
    position += point.length;
  }
  return bytes;
}

std::string alphabet_text_of_bytes(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    append_utf8(alphabet().character[static_cast<unsigned char>(c)], text);
  }
  return text;
}

}  // namespace liquidgemm
