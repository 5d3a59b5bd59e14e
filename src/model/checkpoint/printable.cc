#include "model/checkpoint/printable.h"

namespace liquidgemm {

std::string escaped(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return text.size() > kLongest ? out + "..." : out;
}

std::string printable(std::string_view text) { return "\"" + escaped(text) + "\""; }

}  // namespace liquidgemm
