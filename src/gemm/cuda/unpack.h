// Four LiquidQuant weights with one multiply-add: q * s + a for the four bytes of a word at once.
// No byte carries into the next, because q * s + a <= 255 for every code in use (pack.cu checks).
// The result is unsigned, 128 above the weight; the epilogue takes 128 * sum(x8) off. The other
// ways of unpacking (unpack_kind.h) give signed weights and cost more instructions.
#pragma once

#include <cstdint>

#include "gemm/cuda/layout.h"
#include "gemm/cuda/ptx/shared_words.h"
#include "gemm/cuda/ptx/thread.h"
#include "gemm/cuda/unpack_kind.h"

namespace liquidgemm::cuda {

// A thread's 64 columns of a 64-row block: 16 bytes of codes and the steps they need (layout.h).
template <int kGroupSize, Unpack kUnpack = Unpack::kUnsigned>
struct PackedCodes {
  static constexpr int kStepWords = kGroupSize == 32 ? 2 : 1;  // for 64 columns
  std::uint32_t codes[4];
  std::uint32_t steps[kStepWords];

  // Where a thread's codes and steps of a block lie in shared memory.
  struct Place {
    std::uint32_t codes, steps;
  };
  static __device__ __forceinline__ Place place(std::uint32_t block, int thread) {
    return {block + thread * 16,
            block + 2 * kHalfBlockBytes + thread / 4 * 4 * step_words(kGroupSize)};
  }

  // `offset`: of the block from the place's.
  __device__ __forceinline__ void load(const Place& place, std::uint32_t offset, int half) {
    ptx::load_words(place.codes + offset + half * kHalfBlockBytes, codes);
    const int words = kGroupSize == 128 ? 0 : half * kStepWords;
    ptx::load_words(place.steps + offset + words * 4, steps);
  }

  // The A fragments of two wgmma m64nNk32.
  __device__ __forceinline__ void unpack(std::uint32_t (&fragments)[2][4]) const {
    unpack_step(codes[0], codes[1], steps[0], fragments[0]);
    unpack_step(codes[2], codes[3], steps[kStepWords - 1], fragments[1]);
  }

 private:
  static __device__ __forceinline__ void unpack_step(std::uint32_t row, std::uint32_t row_plus_8,
                                                     std::uint32_t step, std::uint32_t (&a)[4]) {
    // z in the place of a. Byte 2, whose step is not needed here, lends to byte 1.
    if constexpr (kUnpack == Unpack::kSubtract) {
      const std::uint32_t z = 0x80018000u - (step & 0xFF00FF00u);
      unpack_rows(row, row_plus_8, step, z, a);
    } else {
      unpack_rows(row, row_plus_8, step, step, a);
    }
  }
  // Steps are bytes 0 and 2 of `step`, offsets bytes 1 and 3 of `offset`.
  static __device__ __forceinline__ void unpack_rows(std::uint32_t row, std::uint32_t row_plus_8,
                                                     std::uint32_t step, std::uint32_t offset,
                                                     std::uint32_t (&a)[4]) {
    const std::uint32_t s0 = ptx::permute_bytes<0x4440>(step);
    const std::uint32_t a0 = ptx::permute_bytes<0x1111>(offset);
    const std::uint32_t s1 = ptx::permute_bytes<0x4442>(step);
    const std::uint32_t a1 = ptx::permute_bytes<0x3333>(offset);
    a[0] = weights(row & 0x0F0F0F0Fu, s0, a0);
    a[1] = weights(row_plus_8 & 0x0F0F0F0Fu, s1, a1);
    a[2] = weights(row >> 4 & 0x0F0F0F0Fu, s0, a0);
    a[3] = weights(row_plus_8 >> 4 & 0x0F0F0F0Fu, s1, a1);
  }
  // Four codes, one a byte, to four weights.
  static __device__ __forceinline__ std::uint32_t weights(std::uint32_t word, std::uint32_t step,
                                                          std::uint32_t offset) {
    if constexpr (kUnpack == Unpack::kSubtract) {
      return __vsub4(word * step, offset);
    } else if constexpr (kUnpack == Unpack::kXor) {
      return (word * step + offset) ^ 0x80808080u;
    } else {
      return word * step + offset;
    }
  }
};

// INT8 weights become unsigned like the others. That takes an instruction for each fragment
// register, which the assembler needs: it would merge registers that are only copied, and load into
// some that a wgmma still reads.
template <>
struct PackedCodes<kInt8Weights, Unpack::kUnsigned> {
  std::uint32_t weights[2][4];

  struct Place {
    std::uint32_t codes, steps;  // the latter unused
  };
  static __device__ __forceinline__ Place place(std::uint32_t block, int thread) {
    return {block + thread * 16, 0};
  }

  __device__ __forceinline__ void load(const Place& place, std::uint32_t offset, int half) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      ptx::load_words(place.codes + offset + (2 * half + i) * kFragmentBytes, weights[i]);
    }
  }

  __device__ __forceinline__ void unpack(std::uint32_t (&fragments)[2][4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) fragments[i][j] = weights[i][j] ^ 0x80808080u;
    }
  }
};

}  // namespace liquidgemm::cuda
