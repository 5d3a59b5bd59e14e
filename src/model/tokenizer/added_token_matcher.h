// Finds added tokens in text: leftmost first, and of those that begin at one place the longest.
//
// An Aho-Corasick automaton over the reversed contents runs from the end of the text to its
// start. In state s it has just read the longest possible stretch to its right, so the longest
// content that begins here is known at once. Run forwards, the same rule would need lookahead
// as long as the longest token from every place; this way the time is linear whatever the tokens.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace liquidgemm {

class AddedTokenMatcher {
 public:
  struct Match {
    std::size_t start;
    std::size_t end;
    std::uint32_t pattern;  // its index in the constructor's list
  };

  AddedTokenMatcher() = default;
  // Empty patterns never match; of equal ones the first counts.
  explicit AddedTokenMatcher(const std::vector<std::string>& patterns);

  bool empty() const { return lengths_.empty(); }
  // The matches in the order of the text; they do not overlap.
  std::vector<Match> find(std::string_view text) const;

 private:
  static constexpr std::uint32_t kNothing = ~std::uint32_t{0};
  // Nodes are numbered breadth first, so the children of one lie together, sorted by label.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint32_t failure = 0;         // the longest proper suffix that is a node too
    std::uint32_t longest = kNothing;  // the longest pattern that ends (begins, in the text) here
    std::uint16_t child_count = 0;
    unsigned char label = 0;
  };

  void link_failures(const std::vector<std::uint32_t>& parents);
  std::uint32_t child(std::uint32_t node, unsigned char label) const;
  std::uint32_t step(std::uint32_t node, unsigned char label) const;

  std::vector<Node> nodes_;                      // node 0 is the root
  std::array<std::uint32_t, 256> root_child_{};  // 0 = none
  std::vector<std::size_t> lengths_;             // by pattern
};

}  // namespace liquidgemm
