// The tile registers of AMX, and what the two kernels that use them share.
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

#include "gemm/cpu/integer_tile_avx512.h"
#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr int kTileTokens = 32;
constexpr std::int64_t kBlockBytes = kPanelRows * kLine;  // codes of 64 k of a panel

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

// k as the tokens lie, in whole lines.
LIQUIDGEMM_INLINE std::int64_t whole_lines(std::int64_t k) {
  return (k + kLine - 1) / kLine * kLine;
}

// The tokens of a tile of job.m: line after line, and height lines from one 64 k to the next.
// Where tiles differ by a token, the lower ones read one line that is not theirs, and drop it.
struct TileTokens {
  const std::int8_t* x;
  std::int64_t token0;
  std::int64_t height;
};
LIQUIDGEMM_INLINE TileTokens tokens_of(const IntegerJob& job, std::int64_t tile) {
  const std::int64_t token0 = job.m * tile / job.tiles;
  return {static_cast<const std::int8_t*>(job.x) + token0 * whole_lines(job.k), token0,
          job.m * (tile + 1) / job.tiles - token0};
}

template <bool kTwo>
LIQUIDGEMM_INLINE void clear_sums() {
  clear_tile<kSums0>();
  clear_tile<kSums1>();
  if constexpr (kTwo) {
    clear_tile<kSums2>();
    clear_tile<kSums3>();
  }
}

// sums += 64 k. kTwo: of more than 16 tokens.
template <bool kTwo>
LIQUIDGEMM_INLINE void multiply_block(const std::int8_t* x, const std::uint8_t* codes) {
  load_tile<kCodes0>(codes, kCodesPerWord);
  load_tile<kTokens0>(x, kLine);
  multiply_tiles<kSums0, kTokens0, kCodes0>();
  load_tile<kCodes1>(codes + 64, kCodesPerWord);
  multiply_tiles<kSums1, kTokens0, kCodes1>();
  if constexpr (kTwo) {
    load_tile<kTokens1>(x + kTileRows * kLine, kLine);
    multiply_tiles<kSums2, kTokens1, kCodes0>();
    multiply_tiles<kSums3, kTokens1, kCodes1>();
  }
}

// What store_sums does, for floats without bias.
LIQUIDGEMM_INLINE void store_plain_floats(const IntegerJob& job, std::int64_t panel,
                                          const TileTokens& tokens, const std::int32_t* sums) {
  const std::int64_t row0 = panel * kPanelRows;
  const __mmask16 masks[kVectors] = {row_mask(job.n - row0), row_mask(job.n - row0 - 16)};
  const float* scales = job.channel_scale + row0;
  const __m512 channel_scale[kVectors] = {_mm512_load_ps(scales), _mm512_load_ps(scales + 16)};
  float* out = job.out + tokens.token0 * job.ld_out + row0;
  for (std::int64_t t = 0; t < tokens.height; ++t) {
    const std::int64_t token = tokens.token0 + t;
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(job.row_sum[token]), 7);
    const __m512 token_scale = _mm512_set1_ps(job.row_scale[token]);
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i sum = _mm512_load_si512(sums + t * kPanelRows + 16 * v);
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, excess));
      const __m512 y = _mm512_mul_ps(exact, _mm512_mul_ps(token_scale, channel_scale[v]));
      _mm512_mask_storeu_ps(out + 16 * v, masks[v], y);
    }
    out += job.ld_out;
  }
}

template <bool kTwo>
LIQUIDGEMM_INLINE void store_outputs(const IntegerJob& job, std::int64_t panel,
                                     const TileTokens& tokens) {
  alignas(64) std::int32_t sums[kTileTokens * kPanelRows];
  constexpr std::int64_t kStride = kPanelRows * 4;
  store_tile_rows<kSums0>(sums, kStride);
  store_tile_rows<kSums1>(sums + 16, kStride);
  if constexpr (kTwo) {
    store_tile_rows<kSums2>(sums + kTileRows * kPanelRows, kStride);
    store_tile_rows<kSums3>(sums + kTileRows * kPanelRows + 16, kStride);
  }
  if (job.out != nullptr && job.bias == nullptr) {
    store_plain_floats(job, panel, tokens, sums);
  } else {
    store_sums(job, panel, tokens.token0, static_cast<int>(tokens.height), sums);
  }
}

// Tokens of the next tile, of which every 64 k ask for `lines` lines: for L2, from a shared cache.
struct TokensAhead {
  const std::int8_t* next = nullptr;
  const std::int8_t* end = nullptr;
  std::int64_t lines = 0;
};
LIQUIDGEMM_INLINE void prefetch_tokens(TokensAhead& ahead) {
  for (std::int64_t i = 0; i < ahead.lines && ahead.next < ahead.end; ++i) {
    _mm_prefetch(ahead.next, _MM_HINT_T1);
    ahead.next += kLine;
  }
}

// A tile of tokens against one panel of codes, in memory or in L2.
template <bool kTwo, bool kFromMemory>
void run_tile_of_codes(const IntegerJob& job, std::int64_t panel, const TileTokens& tokens,
                       const std::uint8_t* codes, TokensAhead& ahead) {
  constexpr std::int64_t kAhead = (kFromMemory ? 2 : 1) * kBlockBytes;
  clear_sums<kTwo>();
  const std::int8_t* x = tokens.x;
  std::int64_t k = job.k;
  for (; k >= kLine; k -= kLine) {
    LIQUIDGEMM_UNROLL
    for (int line = 0; line < kBlockBytes / 64; ++line) {
      _mm_prefetch(codes + kAhead + 64 * line, _MM_HINT_T0);
    }
    prefetch_tokens(ahead);
    multiply_block<kTwo>(x, codes);
    codes += kBlockBytes;
    x += tokens.height * kLine;
  }
  if (k > 0) {
    // What stands behind the last k meets tokens that are zero, but it has to be memory.
    alignas(64) std::uint8_t last[kBlockBytes] = {};
    for (std::int64_t at = 0; at < k * kPanelRows; at += 64) {
      _mm512_store_si512(last + at, _mm512_load_si512(codes + at));
    }
    multiply_block<kTwo>(x, last);
  }
  store_outputs<kTwo>(job, panel, tokens);
}

}  // namespace
}  // namespace liquidgemm::cpu
