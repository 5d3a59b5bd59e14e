#include "model/tokenizer/text_index.h"

#include <cstring>
#include <random>

namespace liquidgemm {
namespace {

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) | 1;
}

// Both halves of the 128-bit product depend on all bits of both factors.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

std::size_t SeededTextHash::operator()(std::string_view text) const {
  static const std::uint64_t seed = random_seed();
  static const std::uint64_t other_seed = random_seed();
  std::uint64_t hash = seed ^ text.size();
  while (!text.empty()) {
    std::uint64_t block = 0;
    const std::size_t count = text.size() < sizeof block ? text.size() : sizeof block;
    std::memcpy(&block, text.data(), count);
    hash = fold(hash ^ block, other_seed) + seed;
    text.remove_prefix(count);
  }
  return static_cast<std::size_t>(fold(hash, seed));
}

}  // namespace liquidgemm
