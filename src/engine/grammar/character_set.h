// Sets of Unicode characters, as ranges.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace liquidgemm {

class CharacterSet {
 public:
  using Range = std::pair<char32_t, char32_t>;  // both ends belong to it

  CharacterSet() = default;
  CharacterSet(std::initializer_list<Range> ranges);

  void add(char32_t first, char32_t last);
  void add(const CharacterSet& other);

  CharacterSet minus(const CharacterSet& other) const;
  CharacterSet both(const CharacterSet& other) const;

  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }  // ascending, apart from each other

  // Every character that a text may hold: no surrogate halves, not the zero byte.
  static const CharacterSet& all();
  // Those that people write: all but control characters, with tab and the two line ends.
  static const CharacterSet& written();
  // Those that stand for themselves inside a JSON string.
  static const CharacterSet& plain_in_json();

 private:
  std::vector<Range> ranges_;
};

}  // namespace liquidgemm
