// From INT32 sums to Y: the contract's scaling, then a transpose, because wgmma leaves weight rows
// along the lanes' g while Y is contiguous along channels.
//
// One unit is 64 rows x 8 tokens, four sums a thread: (row g, token 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1) of its warp's 16 rows.
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
//
// kCorrected: the sums are of unsigned weights and need the tokens' own.
template <int kTokens, int kRowBlocks, bool kCorrected>
struct TileScales {
  static constexpr bool kCorrectsSums = kCorrected;
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
      if constexpr (kCorrectsSums) ptx::copy_word(token_sum(i), p.x_sum + token);
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

// The outputs of one unit as pairs of tokens 2t, 2t + 1: of row g and of row g + 8; a gated layer
// has the first alone.
struct UnitOutputs {
  std::uint32_t low, high;
};

// The scales of a thread's two rows.
struct RowScales {
  float scale[2];
  float bias[2];

  template <class Scales>
  __device__ __forceinline__ RowScales(const W4A8Parameters& p, const Scales& scales, int row)
      : scale{ptx::load_shared_float(scales.row_scale(row)),
              ptx::load_shared_float(scales.row_scale(row + 8))},
        bias{0.0f, 0.0f} {
    if (p.bias == nullptr) return;
    bias[0] = ptx::load_shared_float(scales.row_bias(row));
    bias[1] = ptx::load_shared_float(scales.row_bias(row + 8));
  }
};

// `token`: of the tile, the first of the pair.
template <bool kGated, class Scales>
__device__ __forceinline__ UnitOutputs unit_outputs(const W4A8Parameters& p, const Scales& scales,
                                                    const RowScales& rows, int token,
                                                    const int (&corrected)[4]) {
  float x_scale[2];
  ptx::load_shared(scales.token_scale(token), x_scale);
  float value[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    value[i] = numerics::scale_output(corrected[i], x_scale[i % 2], rows.scale[i / 2]);
    if (p.bias != nullptr) value[i] = value[i] + rows.bias[i / 2];
  }
  if constexpr (kGated) {
    value[0] = numerics::silu(value[0]) * value[2];
    value[1] = numerics::silu(value[1]) * value[3];
  }
  return {pack_outputs(p.output, value[0], value[1]), pack_outputs(p.output, value[2], value[3])};
}

// Takes 128 times the tokens' sums off, where weights are unsigned.
template <class Scales>
__device__ __forceinline__ void correct_sums(const Scales& scales, int token, int (&sums)[4]) {
  if constexpr (!Scales::kCorrectsSums) return;
  int x_sum[2];
  ptx::load_shared(scales.token_sum(token), x_sum);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] -= 128 * x_sum[i % 2];
}

// One unit by itself, straight to Y. `row_block` of the warp group's, `first_token` of the tile's.
template <class Scales>
__device__ __forceinline__ void write_unit(const W4A8Parameters& p, const OutputOrigin& origin,
                                           const Scales& scales, int row_block, int first_token,
                                           int (&sums)[4]) {
  const int block = origin.row_block + row_block;
  const int token = origin.token + first_token;
  if (block >= p.row_blocks || token >= p.m) return;
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4, t = lane % 4;
  const int row = row_block * kBlockRows + warp * 16 + g;
  correct_sums(scales, first_token + 2 * t, sums);
  if (p.output == OutputType::kInt32) {
    write_sums(p, std::int64_t{origin.row_block} * kBlockRows + row, token + 2 * t, sums);
    return;
  }
  const RowScales rows(p, scales, row);
  const UnitOutputs outputs = p.gated
                                  ? unit_outputs<true>(p, scales, rows, first_token + 2 * t, sums)
                                  : unit_outputs<false>(p, scales, rows, first_token + 2 * t, sums);
  // After the transposes: channels 2t, 2t + 1 of token g.
  const std::uint32_t low = ptx::transpose_8x8(outputs.low);
  const std::uint32_t high = ptx::transpose_8x8(outputs.high);
  if (token + g >= p.m) return;
  const int channel = (p.gated ? block * 32 + warp * 8 : block * 64 + warp * 16) + 2 * t;
  const int channels = p.gated ? p.n / 2 : p.n;
  auto* const y = static_cast<std::uint16_t*>(p.y) + (token + g) * p.ld_y + channel;
  if (channel < channels) *reinterpret_cast<std::uint32_t*>(y) = low;
  if (!p.gated && channel + 8 < channels) *reinterpret_cast<std::uint32_t*>(y + 8) = high;
}

// The staged outputs of a chunk: a row of 128 bytes (64 channels; gated layers 64 bytes, 32
// channels) for each token, its 16-byte pieces in the order of the copy engine's swizzle, which
// keeps the transposed stores free of bank conflicts. Offset of the row piece that this lane gives
// for a unit's matrices; the next unit lies kStagedUnit bytes further.
__device__ __forceinline__ std::uint32_t staged_row(bool gated, int warp, int lane) {
  const int token = lane % 8;
  if (gated) return token * 64 + ((warp ^ (token / 2)) * 16);
  const int piece = warp * 2 + lane / 8 % 2;
  return token * 128 + ((piece ^ token) * 16);
}
template <bool kGated>
inline constexpr int kStagedUnit = kGated ? 8 * 64 : 8 * 128;

}  // namespace liquidgemm::cuda
