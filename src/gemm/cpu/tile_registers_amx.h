// The tile registers of AMX and their instructions. Only the *_amx.cc files include this.
//
// A tile holds 16 rows of 64 bytes. One instruction adds to 16 tokens x 16 channels of INT32 sums
// the products of 64 k. Its second operand has four k of a channel side by side, and so has a panel
// of unsigned codes (packed_weights.h): a step of 64 k of a panel is two operands as it stands.
//
//                         codes 0        codes 1         64 k of channels 0 .. 15 and 16 .. 31
//     tokens 0 (16 x 64)  sums 0         sums 1          tokens  0 .. 15
//     tokens 1 (16 x 64)  sums 2         sums 3          tokens 16 .. 31, where there are so many
//
// LIQUIDGEMM_EMULATE_TILES makes the registers memory, for tests on machines without them.
#pragma once

#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr int kTileTokens = 32;

enum Tile { kSums0, kSums1, kSums2, kSums3, kTokens0, kTokens1, kCodes0, kCodes1, kTiles };

// What the instruction that configures the tiles reads.
struct TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  __attribute__((always_inline)) void set(int tile, std::int64_t count) {
    row_bytes[tile] = count > 0 ? kLine : 0;
    rows[tile] = static_cast<std::uint8_t>(count);
  }
};
static_assert(sizeof(TileShapes) == 64);

#if defined(LIQUIDGEMM_EMULATE_TILES)

struct Tiles {
  TileShapes shapes;
  alignas(64) std::int8_t bytes[kTiles][kTileRows][kLine];
};
thread_local Tiles tiles;

LIQUIDGEMM_INLINE void configure(const TileShapes& shapes) { tiles.shapes = shapes; }
LIQUIDGEMM_INLINE void release() { tiles.shapes = TileShapes(); }
template <Tile kTile>
void clear_tile() {
  __builtin_memset(tiles.bytes[kTile], 0, sizeof tiles.bytes[kTile]);
}
template <Tile kTile>
void load_tile(const void* from, std::int64_t stride) {
  clear_tile<kTile>();
  for (int r = 0; r < tiles.shapes.rows[kTile]; ++r) {
    __builtin_memcpy(tiles.bytes[kTile][r], static_cast<const char*>(from) + r * stride, kLine);
  }
}
template <Tile kTile>
void store_tile_rows(void* to, std::int64_t stride) {
  for (int r = 0; r < tiles.shapes.rows[kTile]; ++r) {
    __builtin_memcpy(static_cast<char*>(to) + r * stride, tiles.bytes[kTile][r], kLine);
  }
}
template <Tile kSum, Tile kTokens, Tile kCodes>
void multiply_tiles() {
  for (int t = 0; t < tiles.shapes.rows[kSum]; ++t) {
    auto* sums = reinterpret_cast<std::int32_t*>(tiles.bytes[kSum][t]);
    for (int k = 0; k < kLine; ++k) {
      for (int n = 0; n < kTileRows; ++n) {
        const auto code = static_cast<std::uint8_t>(tiles.bytes[kCodes][k / 4][4 * n + k % 4]);
        sums[n] += tiles.bytes[kTokens][t][k] * code;
      }
    }
  }
}

#else

LIQUIDGEMM_INLINE void configure(const TileShapes& shapes) {
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}
LIQUIDGEMM_INLINE void release() { __asm__ volatile("tilerelease"); }
template <Tile kTile>
LIQUIDGEMM_INLINE void clear_tile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// The compiler does not see which memory a tile is read from: hence the clobbers.
template <Tile kTile>
LIQUIDGEMM_INLINE void load_tile(const void* from, std::int64_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0"
                   :
                   : "i"(kTile), "r"(from), "r"(stride)
                   : "memory");
}
template <Tile kTile>
LIQUIDGEMM_INLINE void store_tile_rows(void* to, std::int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)"
                   :
                   : "i"(kTile), "r"(to), "r"(stride)
                   : "memory");
}
// Signed tokens times unsigned codes.
template <Tile kSum, Tile kTokens, Tile kCodes>
LIQUIDGEMM_INLINE void multiply_tiles() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kTokens), "i"(kCodes));
}

#endif

// The tiles of one product: for up to `height` tokens at a time. Whoever has turned the registers
// on turns them off again, or every switch of the thread would save them.
class TileScope {
 public:
  __attribute__((always_inline)) explicit TileScope(std::int64_t height) {
    const std::int64_t first = height < kTileRows ? height : kTileRows;
    TileShapes shapes;
    for (int tile = 0; tile < kTiles; ++tile) {
      shapes.set(tile, tile == kSums0 || tile == kSums1 || tile == kTokens0   ? first
                       : tile == kSums2 || tile == kSums3 || tile == kTokens1 ? height - first
                                                                              : kTileRows);
    }
    configure(shapes);
  }
  __attribute__((always_inline)) ~TileScope() { release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

}  // namespace
}  // namespace liquidgemm::cpu
