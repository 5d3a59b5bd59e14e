// Byte-pair merging of one word.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

struct Merge {
  TokenId left;
  TokenId right;
  TokenId merged;
};

class BytePairMerger {
 public:
  // Working memory that encode_word reuses from word to word; one for each thread.
  struct Scratch {
    struct Symbol {
      TokenId id;  // kDead once it is part of the symbol to its left
      std::uint32_t previous;
      std::uint32_t next;
    };
    std::vector<Symbol> symbols;
    // Pairs that may merge, as rank << 32 | position: the least is due next. Those known when a
    // round began are sorted; those found since are a heap. Long runs of one character merge in
    // rounds, and there this is several times faster than one heap.
    std::vector<std::uint64_t> sorted;
    std::size_t sorted_done = 0;
    std::vector<std::uint64_t> found;
  };

  BytePairMerger() = default;
  // `byte_tokens` has the token of each byte, -1 where the vocabulary lacks it; such bytes vanish,
  // as in Hugging Face's model without an unknown token. All ids lie below `vocabulary_size`. Of
  // merges with the same parts the last counts.
  BytePairMerger(const std::array<TokenId, 256>& byte_tokens, std::vector<Merge> merges,
                 std::size_t vocabulary_size);

  // Appends the word's tokens. O(n log n) in the word's length, which is below 4 GiB.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<TokenId>& ids) const;

 private:
  static constexpr TokenId kDead = -1;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  std::uint32_t rank_of(TokenId left, TokenId right) const;  // kNone: they do not merge
  // Queues the pair that begins at `position`, if it merges.
  void push_pair(Scratch& scratch, std::uint32_t position) const;
  static bool pop_pair(Scratch& scratch, std::uint64_t& pair);  // false when none is left

  struct Entry {
    TokenId right;
    std::uint32_t rank;
  };

  std::array<TokenId, 256> byte_tokens_{};
  std::vector<Merge> merges_;  // by rank
  // The merges whose left part is t are entries_[first_[t] .. first_[t + 1]), sorted by the right
  // part. Unlike a hash table this has no bad case that a file could aim for.
  std::vector<std::uint32_t> first_;
  std::vector<Entry> entries_;
};

}  // namespace liquidgemm
