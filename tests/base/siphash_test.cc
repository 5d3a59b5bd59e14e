#include "base/siphash.h"

#include <gtest/gtest.h>

#include <vector>

namespace liquidgemm {
namespace {

// The published test vectors: key 00 01 .. 0f, message 00 01 .. of each length.
TEST(SipHash, GivesThePublishedVectors) {
  const SipHashKey key{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  std::vector<std::byte> message;
  for (int i = 0; i < 15; ++i) message.push_back(std::byte(i));
  const auto hash = [&](std::size_t length) {
    return siphash(key, std::span(message).first(length));
  };
  EXPECT_EQ(hash(0), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(hash(1), 0x74f839c593dc67fdu);
  EXPECT_EQ(hash(2), 0x0d6c8009d9a94f5au);
  EXPECT_EQ(hash(15), 0xa129ca6149be45e5u);
  EXPECT_NE(siphash({}, message), hash(15));
}

}  // namespace
}  // namespace liquidgemm
