// From INT32 sums to Y: the contract's scaling, then a transpose, because wgmma leaves weight rows
// along the lanes' g while Y is contiguous along channels.
//
// One unit is 64 rows x 8 tokens, four sums a thread: (row g, token 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1) of its warp's 16 rows. Two 8x8 transposes of 16-bit outputs give a thread four
// neighbouring channels of token g (layout.h says why they are neighbours): one 8-byte store, 32
// contiguous bytes a warp and token.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "gemm/cuda/layout.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/ptx/thread.h"
#include "gemm/cuda/w4a8_parameters.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {

__device__ __forceinline__ std::uint32_t pack_outputs(OutputType type, float low, float high) {
  if (type == OutputType::kBFloat16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Where sums belong.
struct OutputOrigin {
  int row_block;  // of the warp group's first 64 rows
  int token;      // of the tile's first token
  int thread;     // of the warp group
};

// The bare sums of one unit, corrected, each to its channel. For tests: not coalesced.
__device__ __forceinline__ void write_sums(const W4A8Parameters& p, std::int64_t row, int token,
                                           const int (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::int64_t channel = source_row(row + i / 2 * 8, p.n, p.gated);
    if (channel < 0 || token + i % 2 >= p.m) continue;
    static_cast<std::int32_t*>(p.y)[(token + i % 2) * p.ld_y + channel] = sums[i];
  }
}

// A warp group's scales in shared memory, fetched while its main loop runs:
//
//   token scale [kTokens] | token sum [kTokens] | row scale [64 kRowBlocks] | row bias [the same]
template <int kTokens, int kRowBlocks>
struct TileScales {
  static constexpr int kRows = kRowBlocks * kBlockRows;
  std::uint32_t base;

  __device__ __forceinline__ std::uint32_t token_scale(int token) const { return base + token * 4; }
  __device__ __forceinline__ std::uint32_t token_sum(int token) const {
    return base + (kTokens + token) * 4;
  }
  __device__ __forceinline__ std::uint32_t row_scale(int row) const {
    return base + (2 * kTokens + row) * 4;
  }
  __device__ __forceinline__ std::uint32_t row_bias(int row) const {
    return base + (2 * kTokens + kRows + row) * 4;
  }

  // Past the last token its values are repeated; what is computed with them is not stored.
  __device__ __forceinline__ void fetch(const W4A8Parameters& p, const OutputOrigin& origin) const {
#pragma unroll 1
    for (int i = origin.thread; i < kTokens; i += 128) {
      const int token = min(origin.token + i, p.m - 1);
      ptx::copy_word(token_scale(i), p.x_scale + token);
      ptx::copy_word(token_sum(i), p.x_sum + token);
    }
#pragma unroll 1
    for (int i = origin.thread; i < kRows; i += 128) {
      const int row = origin.row_block * kBlockRows + i;
      if (row >= p.row_blocks * kBlockRows) break;
      ptx::copy_word(row_scale(i), p.channel_scale + row);
      if (p.bias == nullptr) continue;
      const std::int64_t channel = source_row(row, p.n, p.gated);
      if (channel >= 0) ptx::copy_word(row_bias(i), p.bias + channel);
    }
  }
};

// Writes kCount units that follow each other along the tokens. `first`: where they lie in the tile
// of the warp group, row block and token. Small code matters: a block runs it only a few times, and
// unrolled over a whole tile it would be fetching instructions most of the time.
template <int kCount, class Scales>
__device__ __forceinline__ void write_units(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const Scales& scales, int row_block, int first_token,
                                            const int (&sums)[kCount][4]) {
  const int block = origin.row_block + row_block;
  if (block >= p.row_blocks || origin.token + first_token >= p.m) return;
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4, t = lane % 4;
  const int row = row_block * kBlockRows + warp * 16 + g;
  const bool gated = p.gated;
  const float row_scale[2] = {ptx::load_shared_float(scales.row_scale(row)),
                              ptx::load_shared_float(scales.row_scale(row + 8))};
  float bias[2] = {0.0f, 0.0f};
  if (p.bias != nullptr) {
    bias[0] = ptx::load_shared_float(scales.row_bias(row));
    bias[1] = ptx::load_shared_float(scales.row_bias(row + 8));
  }
  // The outputs that this thread stores after the transposes: channels of the unit's token g.
  const int channels = gated ? p.n / 2 : p.n;
  const int channel =
      gated ? block * (kBlockRows / 2) + warp * 8 + 2 * t : block * kBlockRows + warp * 16 + 4 * t;
#pragma unroll
  for (int unit = 0; unit < kCount; ++unit) {
    const int tile_token = first_token + 8 * unit;
    const int token = origin.token + tile_token + 2 * t;  // of the sums
    const int out_token = origin.token + tile_token + g;
    float x_scale[2];
    int x_sum[2];
    ptx::load_shared(scales.token_scale(tile_token + 2 * t), x_scale);
    ptx::load_shared(scales.token_sum(tile_token + 2 * t), x_sum);
    int corrected[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) corrected[i] = sums[unit][i] - 128 * x_sum[i % 2];
    if (p.output == OutputType::kInt32) {
      write_sums(p, std::int64_t{origin.row_block} * kBlockRows + row, token, corrected);
      continue;
    }
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      value[i] = numerics::scale_output(corrected[i], x_scale[i % 2], row_scale[i / 2]);
      if (p.bias != nullptr) value[i] = value[i] + bias[i / 2];
    }
    if (gated) {
      value[0] = numerics::silu(value[0]) * value[2];
      value[1] = numerics::silu(value[1]) * value[3];
    }
    const std::uint32_t low = ptx::transpose_8x8(pack_outputs(p.output, value[0], value[1]));
    const std::uint32_t high = ptx::transpose_8x8(pack_outputs(p.output, value[2], value[3]));
    if (out_token >= p.m || channel >= channels) continue;
    auto* const y = static_cast<std::uint16_t*>(p.y) + out_token * p.ld_y + channel;
    if (gated) {
      *reinterpret_cast<std::uint32_t*>(y) = low;
    } else {
      *reinterpret_cast<uint2*>(y) = make_uint2(low, high);
    }
  }
}

}  // namespace liquidgemm::cuda
