// The sizes that follow from a tile: constants of its kernel, and what the host needs to fit a ring
// into shared memory.
#pragma once

#include "gemm/cuda/layout.h"

namespace liquidgemm::cuda {

// A unit is what one wgmma leaves of 8 tokens: 64 rows x 8 tokens, four sums for each of 128
// threads.
inline constexpr int kUnitBytes = 128 * 16;

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
  // The epilogue writes so many units at a time, and stages their outputs in two buffers.
  LIQUIDGEMM_LAYOUT int chunk_units() const { return token_units() < 4 ? token_units() : 4; }
  LIQUIDGEMM_LAYOUT int output_bytes() const { return chunk_units() * 8 * kBlockRows * 2; }
  LIQUIDGEMM_LAYOUT int staging_bytes() const {
    return depth == 1 ? groups * 2 * output_bytes() : 0;
  }
  // A warp group's copy of what the epilogue needs: scale and sum of every token, scale and bias of
  // every row (w4a8_epilogue.cuh).
  LIQUIDGEMM_LAYOUT int scale_bytes() const { return 8 * (tokens + blocks * kBlockRows); }
};

}  // namespace liquidgemm::cuda
