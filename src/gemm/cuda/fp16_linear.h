// A linear layer with FP16 weights whose results do not depend on the batch: lm_head, where 8 bits
// are not wanted.
//
//   y[m][n] = sum over k of x[m][k] * w[n][k]      f16 products, float sums of the tensor cores
//
// Every sum goes through one accumulator, 16 k at a time (mma m16n8k16) in ascending k from 0,
// whatever M, the tile and the row's place in it.
//
// All pointers are device memory, 16-byte aligned; calls are asynchronous, allocate nothing and may
// be captured in a graph.
#pragma once

#include <cstdint>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// k of one step of the kernel: 128 bytes of a row.
inline constexpr int kFp16StepK = 64;
// Channels of one block of packed weights.
inline constexpr int kFp16BlockChannels = 64;

constexpr std::int64_t fp16_steps(std::int64_t k) { return (k + kFp16StepK - 1) / kFp16StepK; }

// ---- Activations ------------------------------------------------------------------------------
//
// f16 [steps][m][64]: what one step reads of all rows lies together. Inside the 128 bytes of a row
// eight values (16 bytes) are where the banks of shared memory want them: those from k = 8 c on at
// place c xor (row mod 8). Columns behind K are zeros.
constexpr std::int64_t fp16_tiles_bytes(std::int64_t m, std::int64_t k) {
  return fp16_steps(k) * m * kFp16StepK * 2;
}
// Of the values of `row` from k = 8 `eight` on: counted in eights.
constexpr std::int64_t fp16_tile_place(std::int64_t m, std::int64_t row, std::int64_t eight) {
  return ((eight / 8) * m + row) * 8 + ((eight % 8) ^ (row % 8));
}

// ---- Weights ----------------------------------------------------------------------------------
//
// Blocks of 64 channels and 64 k, 8 KiB each, [block of channels][step]; zeros behind N and K. A
// block is 4 x 4 tiles of 16 channels and 16 k, [channels][k]; a tile is the a operand of mma_f16
// (ptx/mma.h), 16 bytes a lane.
inline constexpr std::int64_t kFp16BlockBytes = kFp16BlockChannels * kFp16StepK * 2;

constexpr std::int64_t fp16_blocks(std::int64_t n) {
  return (n + kFp16BlockChannels - 1) / kFp16BlockChannels;
}
constexpr std::int64_t fp16_packed_bytes(std::int64_t n, std::int64_t k) {
  return fp16_blocks(n) * fp16_steps(k) * kFp16BlockBytes;
}

// Packs some rows; those that the last block lacks become zeros.
struct PackFp16Arguments {
  const void* weight = nullptr;  // f16 [rows, k]
  std::int64_t rows = 0;
  std::int64_t k = 0;          // a multiple of 8
  std::int64_t first_row = 0;  // of the layer; a multiple of 64
  void* packed = nullptr;      // of the whole layer
};
Status pack_fp16_weights(const PackFp16Arguments& arguments, CudaStream stream);

struct Fp16LinearArguments {
  const void* packed = nullptr;
  std::int64_t n = 0;       // a multiple of 8
  std::int64_t k = 0;       // a multiple of 8
  const void* x = nullptr;  // in tiles, as above
  std::int64_t m = 0;
  float* y = nullptr;     // [m, n], row stride ld_y
  std::int64_t ld_y = 0;  // a multiple of 8
};
// May start before the kernels before it have ended; it reads no weights that they may write.
Status fp16_linear(const Fp16LinearArguments& arguments, CudaStream stream);

}  // namespace liquidgemm::cuda
