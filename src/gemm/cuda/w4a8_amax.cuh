// The largest magnitude of every token's gated outputs, gathered from where they are staged for the
// copy engine (stage_floats): there a token's channels lie side by side, so that four lanes have 32
// of them in two loads each. It is little code, which counts where a kernel is short: code comes
// from no near cache (docs/gpu.md).
#pragma once

#include "gemm/cuda/ptx/arithmetic.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/thread.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/w4a8_parameters.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::cuda {

// 8 tokens x 32 channels of floats.
inline constexpr int kFloatUnitStaged = 8 * 128;

// Of kUnits units staged one behind another, which the warp group has just finished: a warp each.
// row_block(u) is the 64 rows of unit u, token(u) its first token. Rows behind the last channel do
// not count, nor tokens behind the last.
template <int kUnits, class RowBlock, class Token>
__device__ __forceinline__ void raise_amax(const W4A8Parameters& p, std::uint32_t staged_units,
                                           int thread_of_group, const RowBlock& row_block,
                                           const Token& token) {
  static_assert(kUnits <= 4);
  // Opaque, or what follows from them is kept through the loop over units, and spills.
  const int thread = ptx::opaque(thread_of_group);
  const auto staged = static_cast<std::uint32_t>(ptx::opaque(static_cast<int>(staged_units)));
  // Warps without a unit do the last one's work once more and tell nobody. No branch depends on the
  // thread: it would make the assembler move the main loop's addresses between registers in every
  // round.
  const int warp = thread / 32, row = thread % 32 / 4, quarter = thread % 4;
  const int unit = min(warp, kUnits - 1);
  const std::uint32_t place = staged + unit * kFloatUnitStaged + row * 128;
  float largest = 0.0f;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int words[4];
    ptx::load_shared(place + ((2 * quarter + half) ^ row) * 16, words);
#pragma unroll
    for (const int word : words) {
      largest = ptx::max_or_nan(largest, fabsf(__int_as_float(word)));
    }
  }
  const int of_rows = row_block(unit);
  if (of_rows * (kBlockRows / 2) + quarter * 8 >= p.n / 2) largest = 0.0f;
  std::uint32_t bits = magnitude_bits(largest);
  bits = max(bits, __shfl_xor_sync(0xFFFFFFFFu, bits, 1));
  bits = max(bits, __shfl_xor_sync(0xFFFFFFFFu, bits, 2));
  // Rows that neighbour each other raise different parts.
  const int part = of_rows % kCudaAmaxParts;
  const int of_token = token(unit) + row;
  ptx::raise_word(p.amax + part * p.amax_stride + of_token, bits,
                  p.amax != nullptr && quarter == 0 && warp < kUnits && of_token < p.m);
}

}  // namespace liquidgemm::cuda
