#include "engine/prefix_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <random>
#include <utility>

#include "base/siphash.h"

namespace liquidgemm {

PrefixCache::Hash PrefixCache::random_hash() {
  std::random_device device;
  const auto draw = [&] { return std::uint64_t{device()} << 32 | device(); };
  const SipHashKey secret{draw(), draw()};
  std::vector<std::byte> message;
  return [secret, message](std::uint64_t parent, std::span<const std::byte> added) mutable {
    message.resize(sizeof parent + added.size());
    std::memcpy(message.data(), &parent, sizeof parent);
    std::copy(added.begin(), added.end(), message.begin() + sizeof parent);
    return siphash(secret, message);
  };
}

PrefixCache::PrefixCache(std::int64_t pages, std::string_view scope, Hash hash)
    : hash_(std::move(hash)),
      scope_(hash_(0, std::as_bytes(std::span(scope)))),
      entries_(static_cast<std::size_t>(pages)) {}

std::uint64_t PrefixCache::root_hash(std::string_view salt) const {
  return hash_(scope_, std::as_bytes(std::span(salt)));
}

std::uint64_t PrefixCache::page_hash(std::uint64_t parent, std::span<const TokenId> tokens) const {
  return hash_(parent, std::as_bytes(tokens));
}

std::optional<std::int32_t> PrefixCache::find(const Key& key) const {
  const auto found = by_hash_.find(key.hash);
  if (found == by_hash_.end()) return std::nullopt;
  const Entry& entry = this->entry(found->second);
  if (entry.parent != number_of(key.parent)) return std::nullopt;
  if (key.parent < 0 && entry.salt != key.salt) return std::nullopt;
  if (!std::equal(entry.tokens.begin(), entry.tokens.end(), key.tokens.begin(), key.tokens.end())) {
    return std::nullopt;
  }
  return found->second;
}

bool PrefixCache::insert(const Key& key, std::int32_t page) {
  if (!by_hash_.try_emplace(key.hash, page).second) return false;
  Entry& entry = entries_[static_cast<std::size_t>(page)];
  assert(entry.number == 0 && (key.parent < 0 || number_of(key.parent) != 0));
  entry.hash = key.hash;
  entry.number = next_number_++;
  entry.parent = number_of(key.parent);
  entry.tokens.assign(key.tokens.begin(), key.tokens.end());
  if (key.parent < 0) entry.salt = key.salt;
  return true;
}

void PrefixCache::forget(std::int32_t page) {
  Entry& entry = entries_[static_cast<std::size_t>(page)];
  assert(entry.number != 0);
  by_hash_.erase(entry.hash);
  entry = {};
}

}  // namespace liquidgemm
