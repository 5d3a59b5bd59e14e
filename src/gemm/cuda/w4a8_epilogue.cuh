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
#include "gemm/cuda/silu_multiply.cuh"
#include "gemm/cuda/w4a8_amax.cuh"
#include "gemm/cuda/w4a8_parameters.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {

// Where sums belong.
struct OutputOrigin {
  int row_block;  // of the warp group's first 64 rows
  int token;      // of the tile's first token
  int thread;     // of the warp group
};

// A warp group's scales in shared memory, fetched while its main loop runs:
//
//   for each pair of tokens: scales of both, sums of both | row scale [64 kRowBlocks] | row bias
//
// kCorrected: the sums are of unsigned weights and need the tokens' own.
template <int kTokens, int kRowBlocks, bool kCorrected>
struct TileScales {
  static constexpr bool kCorrectsSums = kCorrected;
  static constexpr int kRows = kRowBlocks * kBlockRows;
  std::uint32_t base;

  // `token`: of the tile; even.
  __device__ __forceinline__ std::uint32_t token_pair(int token) const { return base + token * 8; }
  __device__ __forceinline__ std::uint32_t row_scale(int row) const {
    return base + (2 * kTokens + row) * 4;
  }
  __device__ __forceinline__ std::uint32_t row_bias(int row) const {
    return base + (2 * kTokens + kRows + row) * 4;
  }

  // What lies past the last token is not stored. Its scale is zero, since what the ring happens to
  // hold there could look like gates of unusual size, which take longer (silu_multiply.cuh).
  __device__ __forceinline__ void fetch(const W4A8Parameters& p, const OutputOrigin& origin) const {
#pragma unroll 1
    for (int first = 0; first < kTokens; first += 128) {
      const int i = first + origin.thread;
      const int token = min(origin.token + i, p.m - 1);
      const std::uint32_t place = token_pair(i & ~1) + i % 2 * 4;
      ptx::copy_word_or_zero(place, p.x_scale + token, origin.token + i < p.m, i < kTokens);
      if constexpr (kCorrectsSums) ptx::copy_word(place + 8, p.x_sum + token, i < kTokens);
    }
#pragma unroll 1
    for (int first = 0; first < kRows; first += 128) {
      const int i = first + origin.thread;
      const int row = origin.row_block * kBlockRows + i;
      const bool wanted = i < kRows && row < p.row_blocks * kBlockRows;
      ptx::copy_word(row_scale(i), p.channel_scale + row, wanted);
      if (p.bias == nullptr) continue;
      const std::int64_t channel = source_row(row, p.n, p.gated);
      ptx::copy_word(row_bias(i), p.bias + channel, wanted && channel >= 0);
    }
  }
};

// The scales of a thread's two rows.
struct RowScales {
  float scale[2];
  float bias[2] = {};

  template <class Scales>
  __device__ __forceinline__ void load(const W4A8Parameters& p, const Scales& scales, int row) {
    scale[0] = ptx::load_shared_float(scales.row_scale(row));
    scale[1] = ptx::load_shared_float(scales.row_scale(row + 8));
    if (p.bias == nullptr) return;
    bias[0] = ptx::load_shared_float(scales.row_bias(row));
    bias[1] = ptx::load_shared_float(scales.row_bias(row + 8));
  }
};

// Scales and sums of a thread's two tokens of a unit.
struct TokenPair {
  int words[4];

  template <class Scales>
  __device__ __forceinline__ void load(const Scales& scales, int token) {
    ptx::load_shared(scales.token_pair(token), words);
  }
  __device__ __forceinline__ float scale(int i) const { return __int_as_float(words[i]); }
  // Takes 128 times the token's sum off, where weights are unsigned.
  template <class Scales>
  __device__ __forceinline__ int corrected(int sum, int i) const {
    return Scales::kCorrectsSums ? sum - 128 * words[2 + i] : sum;
  }
};

// The outputs of several units, of the same rows or each of its own, step by step for all of them:
// each step depends on the one before, and only many of a kind keep a warp busy. What is the same
// for all units is decided once for all. A gated layer's are the first two of each.
template <bool kGated, class Scales, int kUnits, int kRows>
__device__ __forceinline__ void unit_values(const W4A8Parameters& p, const RowScales (&rows)[kRows],
                                            const TokenPair (&tokens)[kUnits],
                                            const int (&sums)[kUnits][4],
                                            float (&values)[kUnits][4]) {
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[u][i] = numerics::scale_output(tokens[u].template corrected<Scales>(sums[u][i], i % 2),
                                            tokens[u].scale(i % 2), rows[u % kRows].scale[i / 2]);
    }
  }
  if (p.bias != nullptr) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) values[u][i] = values[u][i] + rows[u % kRows].bias[i / 2];
    }
  }
  if constexpr (kGated) {
    float gates[2 * kUnits], ups[2 * kUnits], products[2 * kUnits];
#pragma unroll
    for (int i = 0; i < 2 * kUnits; ++i) {
      gates[i] = values[i / 2][i % 2];
      ups[i] = values[i / 2][2 + i % 2];
    }
    silu_multiply(gates, ups, products);
#pragma unroll
    for (int i = 0; i < 2 * kUnits; ++i) values[i / 2][i % 2] = products[i];
  }
}

// The outputs of a unit as pairs of tokens 2t, 2t + 1: of row g and of row g + 8; a gated layer has
// the first alone.
struct UnitOutputs {
  std::uint32_t low, high;
};

template <bool kGated, int kUnits>
__device__ __forceinline__ void pack_outputs(const W4A8Parameters& p,
                                             const float (&values)[kUnits][4],
                                             UnitOutputs (&outputs)[kUnits]) {
  const auto pack = [&](auto to_word) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      outputs[u].low = to_word(values[u][0], values[u][1]);
      outputs[u].high = kGated ? 0 : to_word(values[u][2], values[u][3]);
    }
  };
  if (p.output == OutputType::kBFloat16) {
    pack([](float low, float high) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
      return *reinterpret_cast<const std::uint32_t*>(&pair);
    });
  } else {
    pack([](float low, float high) {
      const __half2 pair = __floats2half2_rn(low, high);
      return *reinterpret_cast<const std::uint32_t*>(&pair);
    });
  }
}

// The outputs of one unit that are not staged, each to its channel: floats, ungated, or the bare
// sums, corrected (for tests). The eight lanes of one t write 32 consecutive bytes of a token.
template <class Scales>
__device__ __forceinline__ void write_words(const W4A8Parameters& p, const RowScales& rows,
                                            std::int64_t row, int token, const TokenPair& tokens,
                                            const int (&sums)[4]) {
  int words[4];
  if (p.output == OutputType::kInt32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = tokens.corrected<Scales>(sums[i], i % 2);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float value = numerics::scale_output(tokens.corrected<Scales>(sums[i], i % 2),
                                           tokens.scale(i % 2), rows.scale[i / 2]);
      if (p.bias != nullptr) value = value + rows.bias[i / 2];
      words[i] = __float_as_int(value);
    }
  }
  auto* const to = static_cast<std::int32_t*>(p.y) + token * p.ld_y;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int channel = static_cast<int>(source_row(row + i / 2 * 8, p.n, p.gated));
    ptx::store_word(to + i % 2 * p.ld_y + channel, words[i], channel >= 0 && token + i % 2 < p.m);
  }
}

// The staged 16-bit outputs of a chunk: a row of 128 bytes (64 channels; gated layers 64 bytes, 32
// channels) for each token, its 16-byte pieces in the order of the copy engine's swizzle, which
// keeps the transposed stores free of bank conflicts.
template <bool kGated>
struct Staging {
  static constexpr int kMatrices = kGated ? 1 : 2;               // 8 channels x 8 tokens, of a unit
  static constexpr int kUnitStaged = kGated ? 8 * 64 : 8 * 128;  // bytes

  // Where this lane's row of the matrices of its units goes, when `kUnits` are stored at once.
  template <int kUnits>
  static __device__ __forceinline__ std::uint32_t row(int warp, int lane) {
    const int matrix = lane / 8 % (kUnits * kMatrices), token = lane % 8;
    const int unit = matrix / kMatrices, piece = warp * kMatrices + matrix % kMatrices;
    const int swizzled = kGated ? piece ^ (token / 2) : piece ^ token;
    return unit * kUnitStaged + token * (kGated ? 64 : 128) + swizzled * 16;
  }
};

template <bool kGated>
__device__ __forceinline__ int unit_staged_bytes(const W4A8Parameters& p) {
  return p.output == OutputType::kFloat32 ? kFloatUnitStaged : Staging<kGated>::kUnitStaged;
}

// Stages the 16-bit outputs of units, one behind another.
template <bool kGated, int kUnits>
__device__ __forceinline__ void stage_outputs(const UnitOutputs (&outputs)[kUnits], int thread,
                                              std::uint32_t staged) {
  using Stage = Staging<kGated>;
  constexpr int kAtOnce = kUnits % (4 / Stage::kMatrices) == 0 ? 4 / Stage::kMatrices : 1;
  const std::uint32_t row = staged + Stage::template row<kAtOnce>(thread / 32, thread % 32);
#pragma unroll
  for (int u = 0; u < kUnits; u += kAtOnce) {
    std::uint32_t matrices[kAtOnce * Stage::kMatrices];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      matrices[i * Stage::kMatrices] = outputs[u + i].low;
      if constexpr (!kGated) matrices[i * 2 + 1] = outputs[u + i].high;
    }
    ptx::store_transposed(row + u * Stage::kUnitStaged, matrices);
  }
}

// Stages the float outputs of units, one behind another, in boxes of 32 channels: all of a gated
// layer's; otherwise warps 0 and 1 have the first box's channels, 2 and 3 those of a second one.
//
//   box -> [token of the units] rows of 128 bytes, pieces of 16 swizzled
//
// Each store of a warp meets every bank once.
template <bool kGated, int kUnits>
__device__ __forceinline__ void stage_floats(const float (&values)[kUnits][4], int thread,
                                             std::uint32_t staged) {
  const int warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const int first_piece = (kGated ? warp * 2 : warp % 2 * 4) + g / 4;
  const std::uint32_t box = staged + (kGated ? 0 : warp / 2 * kUnits * kFloatUnitStaged);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
#pragma unroll
    for (int i = 0; i < (kGated ? 2 : 4); ++i) {
      const int token = 2 * t + i % 2;
      const int piece = (first_piece + i / 2 * 2) ^ token;
      ptx::store_shared(box + u * kFloatUnitStaged + token * 128 + piece * 16 + g % 4 * 4,
                        values[u][i]);
    }
  }
}

// Stages whatever is_staged() of several units, each unit_staged_bytes() behind the one before.
template <bool kGated, class Scales, int kUnits, int kRows>
__device__ __forceinline__ void stage_units(const W4A8Parameters& p, const RowScales (&rows)[kRows],
                                            const TokenPair (&tokens)[kUnits],
                                            const int (&sums)[kUnits][4], int thread,
                                            std::uint32_t staged) {
  float values[kUnits][4];
  unit_values<kGated, Scales>(p, rows, tokens, sums, values);
  if (kGated && p.output == OutputType::kFloat32) {
    stage_floats<true>(values, thread, staged);
  } else {
    UnitOutputs outputs[kUnits];
    pack_outputs<kGated>(p, values, outputs);
    stage_outputs<kGated>(outputs, thread, staged);
  }
  ptx::fence_shared_for_bulk_copies();
}

}  // namespace liquidgemm::cuda
