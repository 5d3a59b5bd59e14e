// SipHash-2-4: a keyed hash whose collisions cannot be found without the key (Aumasson and
// Bernstein, "SipHash: a fast short-input PRF", 2012).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace liquidgemm {

struct SipHashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

constexpr std::uint64_t siphash(const SipHashKey& key, std::span<const std::byte> bytes) {
  std::uint64_t v0 = key.k0 ^ 0x736f6d6570736575u;
  std::uint64_t v1 = key.k1 ^ 0x646f72616e646f6du;
  std::uint64_t v2 = key.k0 ^ 0x6c7967656e657261u;
  std::uint64_t v3 = key.k1 ^ 0x7465646279746573u;
  const auto round = [&] {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  };
  const auto absorb = [&](std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  };
  const auto little_endian = [](std::span<const std::byte> some) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < some.size(); ++i) word |= std::uint64_t(some[i]) << (8 * i);
    return word;
  };
  const std::size_t whole = bytes.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) absorb(little_endian(bytes.subspan(i, 8)));
  absorb(little_endian(bytes.subspan(whole)) | std::uint64_t(bytes.size()) << 56);
  v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace liquidgemm
