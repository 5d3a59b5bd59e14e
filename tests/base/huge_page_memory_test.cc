#include "base/huge_page_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace liquidgemm {
namespace {

TEST(HugePageMemory, GivesZeroedAlignedPiecesApart) {
  HugePageMemory memory;
  struct Piece {
    std::shared_ptr<std::uint8_t> data;
    std::size_t bytes;
  };
  std::vector<Piece> pieces;
  // Small ones, one that needs a block of its own, and small ones again.
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{3} << 20,
                                  std::size_t{80} << 20, std::size_t{64}, std::size_t{5000}}) {
    const Piece piece{memory.take(bytes), bytes};
    ASSERT_NE(piece.data, nullptr) << bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.data.get()) % 64, 0u);
    EXPECT_TRUE(std::all_of(piece.data.get(), piece.data.get() + bytes,
                            [](std::uint8_t byte) { return byte == 0; }));
    std::memset(piece.data.get(), static_cast<int>(pieces.size() + 1), bytes);
    pieces.push_back(piece);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::uint8_t* data = pieces[i].data.get();
    EXPECT_TRUE(std::all_of(data, data + pieces[i].bytes,
                            [i](std::uint8_t byte) { return byte == i + 1; }));
  }
}

TEST(HugePageMemory, GoesOnInANewBlockWhenOneIsFull) {
  HugePageMemory memory;
  std::vector<std::shared_ptr<std::uint8_t>> pieces;
  for (int i = 0; i < 20; ++i) {
    pieces.push_back(memory.take(std::size_t{30} << 20));
    ASSERT_NE(pieces.back(), nullptr);
    *pieces.back() = static_cast<std::uint8_t>(i);
    pieces.back().get()[(std::size_t{30} << 20) - 1] = static_cast<std::uint8_t>(i);
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(*pieces[static_cast<std::size_t>(i)], i);
}

TEST(HugePageMemory, PiecesOutliveIt) {
  std::shared_ptr<std::uint8_t> piece;
  {
    HugePageMemory memory;
    piece = memory.take(1000);
    ASSERT_NE(piece, nullptr);
  }
  std::memset(piece.get(), 7, 1000);
  EXPECT_EQ(piece.get()[999], 7);
}

TEST(HugePageMemory, SaysNoToWhatCannotBe) {
  HugePageMemory memory;
  EXPECT_EQ(memory.take(std::numeric_limits<std::size_t>::max()), nullptr);
  EXPECT_EQ(memory.take(std::size_t{1} << 60), nullptr);
  EXPECT_NE(memory.take(10), nullptr);
}

}  // namespace
}  // namespace liquidgemm
