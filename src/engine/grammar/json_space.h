// How much white space an answer in JSON may have. The grammar lets any amount stand between two
// parts; a model that likes blanks best would write them until its tokens are used up.
//
// Between two parts may stand what printers write: nothing, one blank, or one line feed and up to
// kMaxIndent blanks and tabs. What stands in strings is none of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

// Of one vocabulary; knows for every place in an answer which tokens bring too much.
class JsonSpace {
 public:
  static constexpr int kMaxIndent = 32;

  // A place in an answer, as far as white space goes:
  //
  //   0                 behind a part, or at the beginning
  //   1                 behind a blank
  //   2 .. 2 + indent   behind a line feed and so many blanks and tabs
  //   kInString         in a string, kEscape: behind its backslash
  using Place = std::uint8_t;
  static constexpr Place kBeginning = 0;

  // `texts`: the bytes of each token.
  explicit JsonSpace(const std::vector<std::string>& texts);

  bool forbids(Place place, TokenId token) const {
    const auto bit = static_cast<std::size_t>(token);
    return (forbidden_[place][bit / 32] >> (bit % 32) & 1u) != 0;
  }
  // Clears the bits of all tokens that are forbidden there.
  void clear_forbidden(Place place, std::span<std::uint32_t> mask) const;
  // Behind a token that is not forbidden.
  Place after(Place place, TokenId token) const;

 private:
  static constexpr Place kBlank = 1;
  static constexpr Place kLine = 2;
  static constexpr Place kInString = kLine + kMaxIndent + 1;
  static constexpr Place kEscape = kInString + 1;
  static constexpr Place kPlaces = kEscape + 1;
  static constexpr Place kTooMuch = kPlaces;

  static Place next(Place place, char c);
  static Place behind(Place place, std::string_view text);
  std::string_view text(TokenId token) const {
    const auto at = static_cast<std::size_t>(token);
    return std::string_view(bytes_).substr(begins_[at], begins_[at + 1] - begins_[at]);
  }

  std::string bytes_;                                  // of all tokens
  std::vector<std::size_t> begins_;                    // of each, and the end of the last
  std::vector<std::vector<std::uint32_t>> forbidden_;  // by place: a bit for each token
};

}  // namespace liquidgemm
