// Weights in the order in which the kernels read them: one sequential, 64-byte aligned stream for
// each panel of output rows, and panel after panel in ascending n.
//
// 4-bit, a panel of 32 rows. For each group along K (the last may be short):
//
//   32 B  step s of rows 0..31
//   32 B  offset a of rows 0..31
//   then for every 8 k of the group 128 B, 4 for each row:
//
//     byte 4r + j    low nibble   q[row r][k + j]        j = 0..3
//                    high nibble  q[row r][k + 4 + j]
//
//   `bytes & 0x0F` is thus a vector of (row, 4 k) words for k .. k+3, `bytes >> 4 & 0x0F` for
//   k+4 .. k+7: just what an instruction that sums four byte products into a 32-bit lane takes.
//
// INT8, a panel of 32 rows. For every 4 k 128 B:
//
//     byte 4r + j    w8[row r][k + j] + 128, unsigned     j = 0..3
//
//   A 4-bit panel, decoded to q * s + a, has this same form.
//
// Float, a panel of R rows (R is the kernel's): for every k R floats, rows 0..R-1. FP16, the same
// in binary16.
//
// Padding: rows past N have q = 0, s = 1, a = 0 (or w8 = 0, or 0.0) and their results are not
// stored; k past K has q = 0 (or w8 = 0) and meets activations that are zero.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "gemm/cpu/aligned_buffer.h"
#include "gemm/cpu/kernels.h"
#include "gemm/gemm.h"
#include "gemm/packed.h"

namespace liquidgemm::cpu {

inline constexpr std::int64_t kLiquidChunk = 8;  // k of one 128-byte chunk, 4-bit
inline constexpr std::int64_t kInt8Chunk = 4;    // the same, INT8
inline constexpr std::int64_t kChunkBytes = 4 * kPanelRows;
inline constexpr std::int64_t kGroupHeadBytes = 2 * kPanelRows;

inline constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

struct PackedWeights {
  std::shared_ptr<std::uint8_t> data;
  std::size_t bytes = 0;
  AlignedBuffer channel_scale;  // float, padded with zeros to whole panels; integer kinds only
  std::int64_t panels = 0;
  std::int64_t panel_bytes = 0;
  std::int64_t k_padded = 0;
};

// The sizes alone, of a matrix that has passed can_implement but for its pointers. Error: they do
// not fit in 63 bits.
Result<PackedWeights> lay_out_packed(const WeightView& whole, int panel_rows);
// With memory for the panels, and scales that are zero.
Result<PackedWeights> allocate_packed(const WeightView& whole, int panel_rows,
                                      HugePageMemory* memory);

// Checks what a kernel relies on and packs, in one pass over the data. The parts are stacked along
// N; they and the whole have passed can_implement. `panel_rows` is kPanelRows for the integer
// kinds.
Result<PackedWeights> pack_weights(std::span<const WeightView> parts, int panel_rows,
                                   ThreadPool& pool, HugePageMemory* memory);

// The same weights as kept by an earlier run, checked panel by panel as they come.
Result<PackedWeights> read_packed_weights(const WeightView& whole, int panel_rows, ThreadPool& pool,
                                          HugePageMemory* memory, PackedReader& reader);

// One row back from the panels, as floats.
void unpack_liquid_row(const PackedWeights& weights, std::int64_t k, int group_size,
                       std::int64_t row, float* out);
void unpack_int8_row(const PackedWeights& weights, std::int64_t k, std::int64_t row, float* out);
void unpack_float_row(const PackedWeights& weights, std::int64_t k, int panel_rows,
                      std::int64_t row, float* out);
void unpack_fp16_row(const PackedWeights& weights, std::int64_t k, int panel_rows, std::int64_t row,
                     float* out);

}  // namespace liquidgemm::cpu
