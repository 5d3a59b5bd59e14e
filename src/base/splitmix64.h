// SplitMix64: a counter in, 64 well-mixed bits out.
#pragma once

#include <cstdint>
#include <string_view>

namespace liquidgemm {

constexpr std::uint64_t splitmix64(std::uint64_t counter) {
  counter += 0x9e3779b97f4a7c15u;
  counter = (counter ^ (counter >> 30)) * 0xbf58476d1ce4e5b9u;
  counter = (counter ^ (counter >> 27)) * 0x94d049bb133111ebu;
  return counter ^ (counter >> 31);
}

// Where the counter of one name's numbers begins.
constexpr std::uint64_t splitmix64_key(std::uint64_t seed, std::string_view name) {
  std::uint64_t key = splitmix64(seed);
  for (const char c : name) key = splitmix64(key ^ static_cast<unsigned char>(c));
  return key;
}

}  // namespace liquidgemm
