// How the Hopper kernels keep a weight matrix in device memory.
//
// The matrix is cut into blocks of 64 rows (one wgmma of weight rows) by 128 columns of K (one
// pipeline stage). Padding rows and columns hold q = 0, s = 1, a = 0. Blocks of the same rows
// follow each other along K, so that a tile streams through memory:
//
//   codes         [row block][k block] -> block of block_bytes(group_size)
//   channel scale [row block * 64] floats, padding 0, after the last block
//
// One block, with w = warp of the warp group (0..3), g = lane / 4, t = lane % 4:
//
//   bytes 0 .. 2047      K columns   0 ..  63: 128 threads x 16 bytes, thread 32 w + lane
//   bytes 2048 .. 4095   K columns  64 .. 127: the same
//   then                 steps and offsets: for each row pair 8 w + g one 32-bit word for each
//                        group of the block (4, 2 or 1 words for groups of 32, 64, 128)
//
// The 16 bytes of a thread are four words, the A fragments of two wgmma m64nNk32. In word i the low
// nibbles are four codes of one fragment register, the high nibbles those of another; nibble pair
// b (0..3) belongs to byte b of both registers, column 4 t + b of a register's 16 columns:
//
//   word   row              low nibbles      high nibbles
//   0      16 w + g         k  0 + 4t + b    k 16 + 4t + b      registers a0, a2 of the first k32
//   1      16 w + g + 8     k  0 + 4t + b    k 16 + 4t + b      registers a1, a3
//   2      16 w + g         k 32 + 4t + b    k 48 + 4t + b      a0, a2 of the second k32
//   3      16 w + g + 8     k 32 + 4t + b    k 48 + 4t + b      a1, a3
//
// A step word holds, from its lowest byte: step and offset of row 16 w + g, then step and offset of
// row 16 w + g + 8.
//
// INT8 weights (group size kInt8Weights) lie there as fragments: four times 2048 bytes, one for each
// wgmma m64nNk32 of the block, 128 threads x 16 bytes: a0, a1, a2, a3, of the rows and columns
// above.
//
// Row r of the layout is channel r. Gated layers (n/2 gate rows, then n/2 up rows) are stored so
// that one thread holds a gate and its up: of the 16 rows of a warp row g is gate 32 B + 8 w + g of
// row block B, row g + 8 the up of the same number.
#pragma once

#include <cstddef>
#include <cstdint>

#include "liquidgemm/cuda_gemm.h"

#if defined(__CUDACC__)
#define LIQUIDGEMM_LAYOUT __host__ __device__ constexpr
#else
#define LIQUIDGEMM_LAYOUT constexpr
#endif

namespace liquidgemm::cuda {

inline constexpr int kBlockRows = 64;
inline constexpr int kBlockColumns = 128;
inline constexpr int kHalfBlockBytes = 2048;  // 64 rows x 64 columns of codes
inline constexpr int kRowPairs = 32;
inline constexpr int kFragmentBytes = 2048;  // 64 rows x 32 columns of INT8 weights

LIQUIDGEMM_LAYOUT int step_words(int group_size) { return kBlockColumns / group_size; }

LIQUIDGEMM_LAYOUT int block_bytes(int group_size) {
  if (group_size == kInt8Weights) return kBlockRows * kBlockColumns;
  return 2 * kHalfBlockBytes + kRowPairs * 4 * step_words(group_size);
}

LIQUIDGEMM_LAYOUT std::int64_t row_blocks(std::int64_t n) {
  return (n + kBlockRows - 1) / kBlockRows;
}
LIQUIDGEMM_LAYOUT std::int64_t column_blocks(std::int64_t k) {
  return (k + kBlockColumns - 1) / kBlockColumns;
}

// Where the channel scales begin; all blocks come before.
LIQUIDGEMM_LAYOUT std::int64_t channel_scale_offset(std::int64_t n, std::int64_t k,
                                                    int group_size) {
  return row_blocks(n) * column_blocks(k) * block_bytes(group_size);
}

// The checkpoint's row that is kept in `row` of the layout, or -1 for padding.
LIQUIDGEMM_LAYOUT std::int64_t source_row(std::int64_t row, std::int64_t n, bool gated) {
  if (!gated) return row < n ? row : -1;
  const std::int64_t pair = row / kBlockRows * 32 + row % kBlockRows / 16 * 8 + row % 8;
  return pair < n / 2 ? pair + row % 16 / 8 * (n / 2) : -1;
}

}  // namespace liquidgemm::cuda
