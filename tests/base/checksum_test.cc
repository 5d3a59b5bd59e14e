#include "base/checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "../fresh_seed.h"

namespace liquidgemm {
namespace {

TEST(Checksum, EveryTurnedBitChangesIt) {
  std::mt19937_64 random(testing::fresh_seed());
  for (const std::size_t size : {1, 8, 63, 64, 65, 200}) {
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) byte = std::byte(random());
    const std::uint64_t good = checksum(bytes);
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      const std::byte mask = std::byte(1u << bit % 8);
      bytes[bit / 8] ^= mask;
      EXPECT_NE(checksum(bytes), good) << "bit " << bit << " of " << size << " bytes";
      bytes[bit / 8] ^= mask;
    }
    EXPECT_EQ(checksum(bytes), good);
  }
}

TEST(Checksum, LengthAndOrderCount) {
  std::set<std::uint64_t> seen;
  const std::vector<std::byte> zeros(300);
  for (std::size_t size = 0; size <= zeros.size(); ++size) {
    EXPECT_TRUE(seen.insert(checksum(std::span(zeros).first(size))).second) << size;
  }
  std::vector<std::byte> bytes(256);
  for (std::size_t word = 0; word < 32; ++word) {
    bytes[8 * word] = std::byte(1);
    EXPECT_TRUE(seen.insert(checksum(bytes)).second) << "word " << word;
    bytes[8 * word] = std::byte(0);
  }
}

}  // namespace
}  // namespace liquidgemm
