// Finds full pages that already hold the keys and values of a prefix.
//
// A page's contents depend on every token up to its end, so a page is known by its own tokens and
// by the page before it: prefixes are chains of pages, each chain beginning with a salt. A keyed
// hash finds the candidate; it is a hit only if its tokens are the same one by one and it hangs on
// the very page that the chain has reached, so no collision can mix two prefixes. Two prefixes with
// one hash cannot both be cached: the first one stays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

class PrefixCache {
 public:
  // Of the page before (0 for the first) and what is added to it.
  using Hash = std::function<std::uint64_t(std::uint64_t parent, std::span<const std::byte> added)>;
  // SipHash with a key that is drawn at random for each call of this function.
  static Hash random_hash();

  // `scope` names what all pages have in common: the model and the KV format.
  PrefixCache(std::int64_t pages, std::string_view scope, Hash hash);

  // Of the chain that begins with this salt.
  std::uint64_t root_hash(std::string_view salt) const;
  std::uint64_t page_hash(std::uint64_t parent, std::span<const TokenId> tokens) const;

  // One page of a chain.
  struct Key {
    std::uint64_t hash = 0;
    std::int32_t parent = -1;         // the page before it, which is cached; -1: the first page
    std::span<const TokenId> tokens;  // all of a page
    std::string_view salt;
  };
  std::optional<std::int32_t> find(const Key& key) const;
  // False: another prefix has this hash. `key` is not in the cache yet.
  bool insert(const Key& key, std::int32_t page);
  // Forgets the page. Nothing hangs on it: pages at the end of a chain are forgotten first.
  void forget(std::int32_t page);

  std::int64_t size() const { return static_cast<std::int64_t>(by_hash_.size()); }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t number = 0;  // never used twice
    std::uint64_t parent = 0;  // the number of the page before; 0: the first page of its chain
    std::vector<TokenId> tokens;
    std::string salt;  // of a first page
  };
  const Entry& entry(std::int32_t page) const { return entries_[static_cast<std::size_t>(page)]; }
  std::uint64_t number_of(std::int32_t page) const { return page < 0 ? 0 : entry(page).number; }

  Hash hash_;
  std::uint64_t scope_;
  std::uint64_t next_number_ = 1;
  std::vector<Entry> entries_;  // by page
  std::unordered_map<std::uint64_t, std::int32_t> by_hash_;
};

}  // namespace liquidgemm
