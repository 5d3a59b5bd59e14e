#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace liquidgemm {

BytePairMerger::BytePairMerger(const std::array<TokenId, 256>& byte_tokens,
                               std::vector<Merge> merges, std::size_t vocabulary_size)
    : byte_tokens_(byte_tokens), merges_(std::move(merges)), first_(vocabulary_size + 1, 0) {
  for (const Merge& merge : merges_) ++first_[static_cast<std::size_t>(merge.left) + 1];
  for (std::size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
  entries_.resize(merges_.size());
  std::vector<std::uint32_t> next(first_.begin(), first_.end());
  for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
    const Merge& merge = merges_[rank];
    entries_[next[static_cast<std::size_t>(merge.left)]++] = {merge.right,
                                                              static_cast<std::uint32_t>(rank)};
  }
  for (std::size_t left = 0; left + 1 < first_.size(); ++left) {
    std::sort(entries_.begin() + first_[left], entries_.begin() + first_[left + 1],
              [](const Entry& a, const Entry& b) {
                return std::pair(a.right, a.rank) < std::pair(b.right, b.rank);
              });
  }
}

std::uint32_t BytePairMerger::rank_of(TokenId left, TokenId right) const {
  const auto begin = entries_.begin() + first_[static_cast<std::size_t>(left)];
  const auto end = entries_.begin() + first_[static_cast<std::size_t>(left) + 1];
  const auto after = std::upper_bound(
      begin, end, right, [](TokenId value, const Entry& entry) { return value < entry.right; });
  if (after == begin || std::prev(after)->right != right) return kNone;
  return std::prev(after)->rank;
}

void BytePairMerger::push_pair(Scratch& scratch, std::uint32_t position) const {
  const auto& symbol = scratch.symbols[position];
  if (symbol.next == kNone) return;
  const std::uint32_t rank = rank_of(symbol.id, scratch.symbols[symbol.next].id);
  if (rank == kNone) return;
  scratch.found.push_back(static_cast<std::uint64_t>(rank) << 32 | position);
  std::push_heap(scratch.found.begin(), scratch.found.end(), std::greater<>());
}

bool BytePairMerger::pop_pair(Scratch& scratch, std::uint64_t& pair) {
  auto& found = scratch.found;
  if (scratch.sorted_done == scratch.sorted.size()) {
    if (found.empty()) return false;
    scratch.sorted.swap(found);
    found.clear();
    scratch.sorted_done = 0;
    // Pairs found in ascending order leave the heap sorted already.
    if (!std::is_sorted(scratch.sorted.begin(), scratch.sorted.end())) {
      std::sort(scratch.sorted.begin(), scratch.sorted.end());
    }
  }
  if (!found.empty() && found.front() < scratch.sorted[scratch.sorted_done]) {
    std::pop_heap(found.begin(), found.end(), std::greater<>());
    pair = found.back();
    found.pop_back();
  } else {
    pair = scratch.sorted[scratch.sorted_done++];
  }
  return true;
}

void BytePairMerger::encode_word(std::string_view word, Scratch& scratch,
                                 std::vector<TokenId>& ids) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  scratch.sorted.clear();
  scratch.sorted_done = 0;
  scratch.found.clear();
  for (const char byte : word) {
    const TokenId id = byte_tokens_[static_cast<unsigned char>(byte)];
    if (id < 0) continue;
    const auto position = static_cast<std::uint32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  }
  if (symbols.empty()) return;
  symbols.front().previous = kNone;
  symbols.back().next = kNone;

  for (std::uint32_t i = 0; i < symbols.size(); ++i) push_pair(scratch, i);
  std::uint64_t pair = 0;
  while (pop_pair(scratch, pair)) {
    const auto rank = static_cast<std::uint32_t>(pair >> 32);
    const auto position = static_cast<std::uint32_t>(pair);

    // An entry whose pair has changed since it was queued is stale.
    auto& left = symbols[position];
    const Merge& merge = merges_[rank];
    if (left.id != merge.left || left.next == kNone) continue;
    auto& right = symbols[left.next];
    if (right.id != merge.right) continue;

    left.id = merge.merged;
    right.id = kDead;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = position;
    if (left.previous != kNone) push_pair(scratch, left.previous);
    push_pair(scratch, position);
  }
  for (std::uint32_t i = 0; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace liquidgemm
