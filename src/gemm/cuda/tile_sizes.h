// The sizes that follow from a tile: constants of its kernel, and what the host needs to fit a ring
// into shared memory.
#pragma once

#include "gemm/cuda/layout.h"

namespace liquidgemm::cuda {

// A unit is what one wgmma leaves of 8 tokens: 64 rows x 8 tokens, four sums for each of 128
// threads.
inline constexpr int kUnitBytes = 128 * 16;

// Blocks whose tiles lie beside each other along the rows and that load their tokens together: this
// many or one alone.
inline constexpr int kLargestMulticast = 2;

// Its outputs, 16 bits each.
inline constexpr int kUnitOutputBytes = 64 * 8 * 2;

// The epilogue stages outputs in these by turns: one is read while the other is written.
inline constexpr int kOutputBuffers = 2;

// What the copy engine fetches of the weights at a time; a block of any group size is whole lines.
inline constexpr int kLineBytes = 128;

struct TileSizes {
  int tokens;
  int blocks;  // 64-row blocks of a consumer warp group
  int groups;  // consumer warp groups beside each other along the rows
  int depth;   // consumer warp groups that take turns along K
  int group_size;

  LIQUIDGEMM_LAYOUT int tile_blocks() const { return groups * blocks; }
  LIQUIDGEMM_LAYOUT int warp_groups() const { return groups * depth; }
  LIQUIDGEMM_LAYOUT int x_bytes() const { return tokens * kBlockColumns; }
  LIQUIDGEMM_LAYOUT int stage_bytes() const {
    return x_bytes() + tile_blocks() * block_bytes(group_size);
  }
  LIQUIDGEMM_LAYOUT int token_units() const { return tokens / 8; }
  // Of a warp group.
  LIQUIDGEMM_LAYOUT int units() const { return blocks * token_units(); }
  // Of these, so many are added up, and finished or sent on, by each depth group.
  LIQUIDGEMM_LAYOUT int share_units() const { return (units() + depth - 1) / depth; }
  // A stage of the ring takes so many units of every row group when a finisher fetches the sums
  // that another worker left (0: they are few and loaded directly).
  LIQUIDGEMM_LAYOUT int partial_units() const {
    int fitting = x_bytes() / (groups * kUnitBytes);
    while (fitting > 0 && units() % fitting != 0) --fitting;
    return fitting;
  }
  // The epilogue writes so many units at a time, all of the same rows. Gated units take more
  // registers.
  LIQUIDGEMM_LAYOUT int chunk_units(bool gated) const {
    const int all = depth == 1 ? token_units() : share_units();
    int chunk = gated ? 4 : 8;
    while (all % chunk != 0) --chunk;
    return chunk;
  }
  // The same of ungated float outputs, which take twice the room.
  LIQUIDGEMM_LAYOUT int float_chunk_units() const {
    const int all = depth == 1 ? token_units() : share_units();
    // Depth groups have room for their share once, and stage it by turns.
    int chunk = depth == 1 ? chunk_units(false) / 2 : share_units() / 4;
    // Three warp groups have few registers beside so many sums.
    if (warp_groups() > 2 && units() > 16 && chunk > 1) chunk = 1;
    while (chunk > 1 && all % chunk != 0) --chunk;
    return chunk;
  }
  // Shared units are finished so many at a time. All that a block of two finishes are staged where
  // the epilogue of a tile that is not shared has its buffers.
  LIQUIDGEMM_LAYOUT int exchange_units() const {
    const int share = share_units();
    for (int units = 4; units > 1; units /= 2) {
      const int most = ((share + 1) / 2 + units - 1) / units * units;
      if (share >= 2 * units && share % units == 0 &&
          (depth > 1 || most <= kOutputBuffers * chunk_units(false))) {
        return units;
      }
    }
    return 1;
  }
  LIQUIDGEMM_LAYOUT int output_bytes() const { return chunk_units(false) * kUnitOutputBytes; }
  LIQUIDGEMM_LAYOUT int staging_bytes() const {
    return depth == 1 ? groups * kOutputBuffers * output_bytes() : 0;
  }
  // A warp group's copy of what the epilogue needs: scale and sum of every token, scale and bias of
  // every row (w4a8_epilogue.cuh).
  LIQUIDGEMM_LAYOUT int scale_bytes() const { return 8 * (tokens + blocks * kBlockRows); }
};

}  // namespace liquidgemm::cuda
