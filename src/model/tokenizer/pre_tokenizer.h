// Cuts text into the words that BPE merges within: one linear scanner for each pattern.
//
// A published tokenizer names its pattern as a regular expression with lookahead. A backtracking
// engine on user text is a way to stall a server, so each known pattern is a hand-written scanner
// that visits a character a bounded number of times.
#pragma once

#include <cstddef>
#include <string_view>

#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/unicode_class.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {

// The patterns as tokenizer.json spells them.
extern const std::string_view kGpt2Pattern;
extern const std::string_view kLlama3Pattern;
extern const std::string_view kQwen2Pattern;

// The end of the word that begins at `start` < text.size(). The text must be valid UTF-8. For
// kSmolLm the caller has cut off the digits already, what remains follows GPT-2's pattern.
std::size_t word_end(PreTokenizer kind, std::string_view text, std::size_t start);

// Calls visit(std::string_view section) for each section that `Digits(individual_digits)` cuts:
// every digit by itself, and what lies between.
template <typename Visit>
void for_each_digit_section(std::string_view text, Visit&& visit) {
  std::size_t start = 0;
  for (std::size_t position = 0; position < text.size();) {
    const CodePoint point = code_point_at(text, position);
    const std::size_t next = position + point.length;
    if (unicode_class(point.value) & kDigit) {
      if (start < position) visit(text.substr(start, position - start));
      visit(text.substr(position, point.length));
      start = next;
    }
    position = next;
  }
  if (start < text.size()) visit(text.substr(start));
}

}  // namespace liquidgemm
