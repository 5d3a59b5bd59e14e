#include "engine/grammar/character_set.h"

#include <algorithm>

namespace liquidgemm {

CharacterSet::CharacterSet(std::initializer_list<Range> ranges) {
  for (const auto& [first, last] : ranges) add(first, last);
}

void CharacterSet::add(char32_t first, char32_t last) {
  if (first > last) return;
  std::vector<Range> merged;
  merged.reserve(ranges_.size() + 1);
  std::size_t i = 0;
  while (i < ranges_.size() && ranges_[i].second + 1 < first) merged.push_back(ranges_[i++]);
  for (; i < ranges_.size() && ranges_[i].first <= last + 1; ++i) {
    first = std::min(first, ranges_[i].first);
    last = std::max(last, ranges_[i].second);
  }
  merged.emplace_back(first, last);
  merged.insert(merged.end(), ranges_.begin() + static_cast<std::ptrdiff_t>(i), ranges_.end());
  ranges_ = std::move(merged);
}

void CharacterSet::add(const CharacterSet& other) {
  for (const auto& [first, last] : other.ranges_) add(first, last);
}

CharacterSet CharacterSet::minus(const CharacterSet& other) const {
  CharacterSet left;
  std::size_t from = 0;
  for (auto [first, last] : ranges_) {
    while (from < other.ranges_.size() && other.ranges_[from].second < first) ++from;
    bool open = true;
    for (std::size_t i = from; i < other.ranges_.size() && other.ranges_[i].first <= last; ++i) {
      const auto& [cut_first, cut_last] = other.ranges_[i];
      if (cut_first > first) left.ranges_.emplace_back(first, cut_first - 1);
      if (cut_last >= last) {
        open = false;
        break;
      }
      first = std::max(first, static_cast<char32_t>(cut_last + 1));
    }
    if (open) left.ranges_.emplace_back(first, last);
  }
  return left;
}

CharacterSet CharacterSet::both(const CharacterSet& other) const { return minus(minus(other)); }

const CharacterSet& CharacterSet::all() {
  static const CharacterSet kSet = {{0x1, 0xd7ff}, {0xe000, 0x10ffff}};
  return kSet;
}

const CharacterSet& CharacterSet::written() {
  static const CharacterSet kSet = {
      {'\t', '\n'}, {'\r', '\r'}, {0x20, 0x7e}, {0xa0, 0xd7ff}, {0xe000, 0x10ffff}};
  return kSet;
}

const CharacterSet& CharacterSet::plain_in_json() {
  static const CharacterSet kSet = {{0x20, '!'}, {'#', '['}, {']', 0xd7ff}, {0xe000, 0x10ffff}};
  return kSet;
}

}  // namespace liquidgemm
