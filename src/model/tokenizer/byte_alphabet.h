// GPT-2's byte alphabet: one printable character for each of the 256 bytes, so that vocabulary
// files can hold any bytes as readable text (a space is "Ġ", a newline "Ċ").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace liquidgemm {

// Nothing when a character is not of the alphabet. The text must be valid UTF-8.
std::optional<std::string> bytes_of_alphabet_text(std::string_view text);
std::string alphabet_text_of_bytes(std::string_view bytes);

}  // namespace liquidgemm
