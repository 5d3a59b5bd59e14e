// What the two AMX kernels share: a tile of tokens against a panel of unsigned codes, and its
// store.
#pragma once

#include <immintrin.h>

#include "gemm/cpu/integer_tile_avx512.h"
#include "gemm/cpu/tile_registers_amx.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kBlockBytes = kPanelRows * kLine;  // codes of 64 k of a panel

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
    const PanelOutput of_panel = panel_output(job, panel);
    float* out = job.out + tokens.token0 * job.ld_out + panel * kPanelRows;
    for (std::int64_t t = 0; t < tokens.height; ++t) {
      const std::int64_t token = tokens.token0 + t;
      const __m512i sum[kVectors] = {_mm512_load_si512(sums + t * kPanelRows),
                                     _mm512_load_si512(sums + t * kPanelRows + 16)};
      store_token(of_panel, job.row_sum[token], job.row_scale[token], sum, out);
      out += job.ld_out;
    }
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
