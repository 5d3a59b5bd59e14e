// What a W4A8 kernel is told at launch.
#pragma once

#include <cuda.h>
#include <vector_types.h>

#include <cstdint>

#include "gemm/cuda/divisor.h"
#include "gemm/cuda/layout.h"

namespace liquidgemm::cuda {

// What the epilogue writes.
enum class OutputType : int { kFloat16, kBFloat16, kFloat32, kInt32 };

struct W4A8Parameters {
  // What the loader needs for its first copies comes first: a launch finds its parameters in no
  // cache, and fetches them line by line.
  std::uint64_t weight_policy = 0;
  std::uint64_t x_policy = 0;
  int stages = 0;
  int stage_bytes = 0;     // that arrive for a stage
  int x_rows = 0;          // tokens of a box
  int last_row_block = 0;  // where the last row tile begins,
  int last_token = 0;      // and the last token tile
  int row_blocks = 0;      // of 64 rows
  int column_blocks = 0;   // of 128 columns of K
  int row_tiles = 0;       // of all blocks of a cluster together
  int token_tiles = 0;
  Divisor by_token_tiles, by_column_blocks;
  int split = 1;         // blocks of a cluster that share one tile along K:
  int split_share = 0;   // column blocks for each,
  int split_extra = 0;   // and one more for the first of them
  int multicast = 1;     // blocks of a cluster whose tiles lie beside each other along the rows
  int workers = 0;       // clusters, or blocks without one
  int stream_tiles = 0;  // the first tiles, cut at any column block and shared out evenly:
  int stream_share = 0;  // column blocks for every worker,
  int stream_extra = 0;  // and one more for the first of them
  int ahead = 1;  // stages whose weights are fetched before the kernel before this one has ended:
  int burst = 1;  // so many at once, and then
  int pace = 0;   // one after so many cycles each
  CUtensorMap w_map;  // the weights as [row block, line, 128 bytes], boxes of a stage of a tile
  CUtensorMap x_map;  // X8 as [m, k] bytes, boxes of 128 bytes x x_rows
  CUtensorMap y_map;  // Y, boxes of 32 or 64 channels x the tokens of a chunk, swizzled
  CUtensorMap partial_map;  // `partials` as [worker's row group, line, 128 bytes], boxes of a stage
  const float* channel_scale = nullptr;  // in the layout's row order
  const float* x_scale = nullptr;
  const std::int32_t* x_sum = nullptr;
  const float* bias = nullptr;  // in channel order, or null
  void* y = nullptr;
  std::int64_t ld_y = 0;
  int4* partials = nullptr;   // unfinished tiles of stream-K, by worker
  unsigned* flags = nullptr;  // 1: the partial is there
  // [kCudaAmaxParts][amax_stride], raised to the magnitudes of gated floats; or null.
  std::uint32_t* amax = nullptr;
  std::int64_t amax_stride = 0;
  int n = 0;
  int m = 0;
  // The exchange of sums among contributors (w4a8_exchange.cuh).
  int exchange_offset = 0;               // where in shared memory
  bool exchange_apart = false;           // not in the ring
  int staging_offset = 0;                // of depth groups' outputs, where in shared memory
  int exchange_most = 0;                 // units that a depth group of a block finishes at most
  std::uint32_t exchange_bytes[8] = {};  // that arrive for a row group of the block of each rank
  OutputType output = OutputType::kFloat16;
  bool gated = false;  // rows are gates and ups (layout.h); y = SiLU(gate) * up
};

// Whether the outputs of a unit take no more than the 128 bytes a token that are there to stage
// them for the copy engine, however a tile is shared. Ungated floats take twice that and are staged
// where there is room; bare sums, and floats elsewhere, go straight from the registers.
LIQUIDGEMM_LAYOUT bool is_staged(const W4A8Parameters& p) {
  return p.output < OutputType::kFloat32 || (p.gated && p.output == OutputType::kFloat32);
}

}  // namespace liquidgemm::cuda
