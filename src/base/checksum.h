// Finds damage in large blocks at the speed of memory. It does not protect against somebody who
// means to fool it: for that there is siphash.h.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/siphash.h"

namespace liquidgemm {

// FNV-1a over 64-bit words in eight lanes, which SipHash folds. Each step of a lane is a bijection
// of the lane and of the word, so a change within one word is always found.
inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::uint64_t kPrime = 0x100000001B3u;
  constexpr std::size_t kLanes = 8;
  constexpr std::size_t kBlock = kLanes * sizeof(std::uint64_t);
  std::array<std::uint64_t, kLanes + 1> lanes;
  for (std::size_t lane = 0; lane < lanes.size(); ++lane) lanes[lane] = lane;
  const auto absorb = [&](const std::byte* block) {
#pragma GCC unroll 8
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      std::uint64_t word;
      std::memcpy(&word, block + lane * sizeof word, sizeof word);
      // Turned, since a product carries nothing from high bits to low ones.
      lanes[lane] = std::rotl((lanes[lane] ^ word) * kPrime, 29);
    }
  };
  const std::size_t whole = bytes.size() / kBlock * kBlock;
  for (std::size_t at = 0; at < whole; at += kBlock) absorb(bytes.data() + at);
  if (whole < bytes.size()) {
    std::array<std::byte, kBlock> rest{};
    std::memcpy(rest.data(), bytes.data() + whole, bytes.size() - whole);
    absorb(rest.data());
  }
  lanes[kLanes] = bytes.size();
  return siphash({}, std::as_bytes(std::span(lanes)));
}

}  // namespace liquidgemm
