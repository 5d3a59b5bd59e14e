// What a decoder layer with FP16 weights does beside its linear layers and attention, and the last
// norm of a model with an FP16 head: rows are f16, without gaps, computed in float and rounded
// once, to nearest even. As in ops/cuda/rows.h all pointers are device memory, 16-byte aligned, and
// every call is asynchronous, allocates nothing and may be captured in a graph.
#pragma once

#include <cstdint>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// out[row] = table[token]. A token outside the vocabulary gives a row of NaN.
struct EmbedHalfArguments {
  const void* table = nullptr;  // f16 [vocab, hidden]
  std::int64_t vocab = 0;
  const std::int32_t* tokens = nullptr;  // [m]
  std::int64_t m = 0;
  std::int64_t hidden = 0;  // a multiple of 8
  float* out = nullptr;     // [m, hidden]
};
Status embed_half_rows(const EmbedHalfArguments& arguments, CudaStream stream);

// residual += x (x may be null: nothing is added); out = RMSNorm(residual) * norm_weight, by the
// numeric contract's operations, rounded.
struct AddNormHalfArguments {
  const void* x = nullptr;    // f16 [m, k]
  float* residual = nullptr;  // [m, k], read and written
  std::int64_t m = 0;
  std::int64_t k = 0;  // a multiple of 8
  const float* norm_weight = nullptr;
  float epsilon = 1e-5f;
  void* out = nullptr;  // f16 [m, k]
};
Status add_norm_half_rows(const AddNormHalfArguments& arguments, CudaStream stream);

// The same with float x, into the tiles that an FP16 head reads (gemm/cuda/fp16_linear.h).
struct AddNormHalfTilesArguments {
  const float* x = nullptr;   // [m, k]; not null
  float* residual = nullptr;  // [m, k], read and written
  std::int64_t m = 0;
  std::int64_t k = 0;  // a multiple of 8
  const float* norm_weight = nullptr;
  float epsilon = 1e-5f;
  void* out = nullptr;  // f16, fp16_tiles_bytes(m, k)
};
Status add_norm_half_tiles(const AddNormHalfTilesArguments& arguments, CudaStream stream);

// out = SiLU(gate) * up, rounded; a row of gate_up holds k gates, then k ups.
struct SiluHalfArguments {
  const void* gate_up = nullptr;  // f16 [m, 2 k]
  std::int64_t m = 0;
  std::int64_t k = 0;   // a multiple of 8
  void* out = nullptr;  // f16 [m, k]
};
Status silu_multiply_half_rows(const SiluHalfArguments& arguments, CudaStream stream);

}  // namespace liquidgemm::cuda
