// What a code point is to a pre-tokeniser.
//
// The table comes from Hugging Face `tokenizers` (scripts/make_unicode_classes.py), not from
// utf8proc: the parts of that library follow different Unicode versions, and a distribution's
// utf8proc follows yet another, so only its own answers give its token ids everywhere.
#pragma once

#include <cstdint>

namespace liquidgemm {

enum UnicodeClass : std::uint8_t {
  kLetter = 1,  // \p{L} of its regex engine
  kNumber = 2,  // \p{N} of its regex engine: also Roman numerals, fractions, other scripts
  kSpace = 4,   // \s
  kDigit = 8,   // what the `Digits` pre-tokeniser splits off; \p{N} of a newer Unicode
  kWord = 16,   // \w, which decides where a single_word token may stand
  kInert = 32,  // newer than the NFC tables: not moved, split or joined by them
};

// The bits of UnicodeClass that hold for the code point (0 above U+10FFFF).
std::uint8_t unicode_class(char32_t code_point);

}  // namespace liquidgemm
