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

// Where a warp group's sums belong.
struct OutputOrigin {
  int row_block;  // of the warp group's first 64 rows
  int token;      // of the tile's first token
  int thread;     // of the warp group
};

// What the sums of one row need.
struct RowScale {
  float scale;
  float bias;
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

// Writes the units [first, last) of sums[kRowBlocks][kTokens / 2]; unit u is row block
// u / (kTokens / 8), token unit u % (kTokens / 8).
template <int kRowBlocks, int kTokens>
__device__ __forceinline__ void write_units(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const int (&sums)[kRowBlocks][kTokens / 2], int first,
                                            int last) {
  constexpr int kTokenUnits = kTokens / 8;
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4, t = lane % 4;
  const bool gated = p.gated, has_bias = p.bias != nullptr;
  RowScale rows[kRowBlocks][2];
#pragma unroll
  for (int r = 0; r < kRowBlocks; ++r) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const std::int64_t row =
          std::int64_t{origin.row_block + r} * kBlockRows + warp * 16 + g + 8 * upper;
      rows[r][upper] = {0.0f, 0.0f};
      if (origin.row_block + r >= p.row_blocks) continue;
      rows[r][upper].scale = __ldg(p.channel_scale + row);
      const std::int64_t channel = source_row(row, p.n, gated);
      if (has_bias && channel >= 0) rows[r][upper].bias = __ldg(p.bias + channel);
    }
  }
  // The outputs that this thread stores after the transposes: channels of token unit * 8 + g.
  const int channels = gated ? p.n / 2 : p.n;
  const int block_channels = gated ? kBlockRows / 2 : kBlockRows;
  const int channel0 =
      origin.row_block * block_channels + (gated ? warp * 8 + 2 * t : warp * 16 + 4 * t);
#pragma unroll
  for (int j = 0; j < kTokenUnits; ++j) {
    if (origin.token + 8 * j >= p.m) break;
    const int token = origin.token + 8 * j + 2 * t;  // of the sums
    const int out_token = origin.token + 8 * j + g;
    float x_scale[2];
    int correction[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool valid = token + i < p.m;
      x_scale[i] = valid ? __ldg(p.x_scale + token + i) : 0.0f;
      correction[i] = valid ? 128 * __ldg(p.x_sum + token + i) : 0;
    }
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
      const int unit = r * kTokenUnits + j;
      if (unit < first || unit >= last) continue;
      int corrected[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) corrected[i] = sums[r][4 * j + i] - correction[i % 2];
      if (p.output == OutputType::kInt32) {
        const std::int64_t row = std::int64_t{origin.row_block + r} * kBlockRows + warp * 16 + g;
        write_sums(p, row, token, corrected);
        continue;
      }
      float value[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const RowScale& row = rows[r][i / 2];
        value[i] = numerics::scale_output(corrected[i], x_scale[i % 2], row.scale);
        if (has_bias) value[i] = value[i] + row.bias;
      }
      if (gated) {
        value[0] = numerics::silu(value[0]) * value[2];
        value[1] = numerics::silu(value[1]) * value[3];
      }
      const std::uint32_t low = ptx::transpose_8x8(pack_outputs(p.output, value[0], value[1]));
      const std::uint32_t high = ptx::transpose_8x8(pack_outputs(p.output, value[2], value[3]));
      const int channel = channel0 + r * block_channels;
      if (out_token >= p.m || channel >= channels) continue;
      auto* const y = static_cast<std::uint16_t*>(p.y) + out_token * p.ld_y + channel;
      if (gated) {
        *reinterpret_cast<std::uint32_t*>(y) = low;
      } else {
        *reinterpret_cast<uint2*>(y) = make_uint2(low, high);
      }
    }
  }
}

}  // namespace liquidgemm::cuda
