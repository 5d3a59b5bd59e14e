// Activations in the order in which the kernels read them.
//
// Tokens are cut into tiles of T tokens. A tile interleaves its tokens word by word, where a word
// is 4 consecutive k in INT8 (4 bytes) or INT16 (8 bytes), or one k in float:
//
//   tile 0: [ word 0: token 0 .. T-1 | word 1: token 0 .. T-1 | ... ]  tile 1: [ ... ]
//
// so the microkernel broadcasts T neighbouring words against one vector of weights and its reads
// are sequential. (Rows apart by a power of two would all fall into the same L1 sets.) k is padded
// with zeros: whatever weight stands there adds nothing. With T = 1 a tile is the row itself.
//
// A tile of INT8 is made of quads, such tiles of four tokens, of which the last may have fewer:
//
//   tile 0: [ quad 0: [ word 0: token 0 .. 3 | word 1: token 0 .. 3 | ... ] quad 1: [ ... ] ... ]
//
// Threads that each pack the tokens which they have quantised then write different lines.
//
// Where an instruction takes 64 k of a token at once (AMX), a tile interleaves its tokens line by
// line, where a line is 64 consecutive k of INT8:
//
//   tile 0: [ line 0: token 0 .. T-1 | line 1: token 0 .. T-1 | ... ]  tile 1: [ ... ]
//
// Group sums, for the factored kernels (sum of q * x * s + a * sum of x over a group), lie the same
// way: [group][T] for each tile, INT16 because |sum| <= 128 * 128.
#pragma once

#include <cstdint>

#include "gemm/cpu/kernels.h"

namespace liquidgemm::cpu {

// Work is divided into steps of this many k: a multiple of every group size.
inline constexpr std::int64_t kPackStep = 128;

struct ActivationTiles {
  std::int64_t m;
  std::int64_t tiles;
  std::int64_t k;         // as given
  std::int64_t k_padded;  // as the kernel reads it
  // A call packs the tiles, or quads, whose first token is one of these.
  std::int64_t first = 0;
  std::int64_t last = m;  // excluded
  std::int64_t begin(std::int64_t tile) const { return m * tile / tiles; }
};

// Packs k_begin .. k_end - 1 (multiples of kPackStep, but for the padded end).
void pack_int8(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
               std::int64_t k_begin, std::int64_t k_end, std::int8_t* packed);
void pack_lines(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, std::int8_t* packed);
void pack_int16(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, std::int16_t* packed);
void pack_group_sums(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                     int group_size, std::int64_t k_begin, std::int64_t k_end, std::int16_t* sums);
void pack_float(const ActivationTiles& tiles, const float* x, std::int64_t ld, std::int64_t k_begin,
                std::int64_t k_end, float* packed);
// The values that pack_float packed, each to the nearest binary16.
void round_to_fp16(const ActivationTiles& tiles, std::int64_t k_begin, std::int64_t k_end,
                   float* packed);

}  // namespace liquidgemm::cpu
