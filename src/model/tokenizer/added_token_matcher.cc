#include "model/tokenizer/added_token_matcher.h"

#include <algorithm>

namespace liquidgemm {

AddedTokenMatcher::AddedTokenMatcher(const std::vector<std::string>& patterns) {
  struct Entry {
    std::string reversed;
    std::uint32_t pattern;
  };
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    entries.push_back(
        {std::string(patterns[i].rbegin(), patterns[i].rend()), static_cast<std::uint32_t>(i)});
  }
  if (entries.empty()) return;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.reversed < b.reversed; });
  for (const std::string& pattern : patterns) lengths_.push_back(pattern.size());

  // A node stands for the entries [low, high) that share their first `depth` bytes.
  struct Span {
    std::size_t low;
    std::size_t high;
    std::size_t depth;
  };
  std::vector<Span> spans{{0, entries.size(), 0}};
  std::vector<std::uint32_t> parents{0};
  nodes_.emplace_back();
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    auto [low, high, depth] = spans[node];
    // Sorted, the entries that end here come first.
    if (entries[low].reversed.size() == depth) nodes_[node].longest = entries[low].pattern;
    while (low < high && entries[low].reversed.size() == depth) ++low;
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (low < high) {
      const char label = entries[low].reversed[depth];
      std::size_t end = low;
      while (end < high && entries[end].reversed[depth] == label) ++end;
      spans.push_back({low, end, depth + 1});
      parents.push_back(node);
      nodes_.emplace_back().label = static_cast<unsigned char>(label);
      ++nodes_[node].child_count;
      low = end;
    }
  }
  for (std::uint32_t i = 0; i < nodes_[0].child_count; ++i) {
    root_child_[nodes_[nodes_[0].first_child + i].label] = nodes_[0].first_child + i;
  }
  link_failures(parents);
}

void AddedTokenMatcher::link_failures(const std::vector<std::uint32_t>& parents) {
  for (std::uint32_t node = 1; node < nodes_.size(); ++node) {
    Node& self = nodes_[node];
    const std::uint32_t parent = parents[node];
    self.failure = parent == 0 ? 0 : step(nodes_[parent].failure, self.label);
    if (self.longest == kNothing) self.longest = nodes_[self.failure].longest;
  }
}

std::uint32_t AddedTokenMatcher::child(std::uint32_t node, unsigned char label) const {
  if (node == 0) return root_child_[label];
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].child_count;
  const auto found = std::lower_bound(
      begin, end, label, [](const Node& a, unsigned char value) { return a.label < value; });
  if (found == end || found->label != label) return 0;
  return static_cast<std::uint32_t>(found - nodes_.begin());
}

std::uint32_t AddedTokenMatcher::step(std::uint32_t node, unsigned char label) const {
  for (;;) {
    if (const std::uint32_t next = child(node, label)) return next;
    if (node == 0) return 0;
    node = nodes_[node].failure;
  }
}

std::vector<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text) const {
  std::vector<Match> matches;
  if (empty()) return matches;
  std::uint32_t node = 0;
  for (std::size_t start = text.size(); start-- > 0;) {
    node = step(node, static_cast<unsigned char>(text[start]));
    const std::uint32_t pattern = nodes_[node].longest;
    if (pattern != kNothing) matches.push_back({start, start + lengths_[pattern], pattern});
  }
  std::reverse(matches.begin(), matches.end());
  std::size_t free_from = 0;
  std::erase_if(matches, [&](const Match& match) {
    if (match.start < free_from) return true;
    free_from = match.end;
    return false;
  });
  return matches;
}

}  // namespace liquidgemm
