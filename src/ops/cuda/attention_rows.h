// The last step of attention: its results as the rows that the next linear layer reads. Of a
// sequence whose context has several splits, decode attention leaves one result a split; here they
// become one, in ascending order (gemm/numerics.h, Attention), on their way into the row.
//
// As in ops/cuda/rows.h every call is asynchronous, allocates nothing and may be captured in a
// graph.
#pragma once

#include <cstdint>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "ops/cuda/attention.h"

namespace liquidgemm::cuda {

// `splits` is read before the kernel in front on the stream has ended, as attention's lists are.
struct AttentionRows {
  // Shape, heads, head_dim and out, 16-byte aligned, as attention had them; ld_out and
  // heads * head_dim multiples of 4.
  AttentionTensors tensors;
  std::int64_t rows = 0;
  const RowSplits* splits = nullptr;  // [rows]
  const void* workspace = nullptr;    // decode attention's
};

// Ok, or why rows of so many heads are refused.
Status can_finish_attention(int heads, int head_dim);

// Into `out`, where the rows of one split are already.
Status combine_attention(const AttentionRows& arguments, CudaStream stream);

// To INT8, by the contract's row rule.
struct QuantizedAttention {
  std::int8_t* x8 = nullptr;    // [rows, heads * head_dim], 4-byte aligned
  std::int64_t ld_x8 = 0;       // a multiple of 4
  float* scale = nullptr;       // [rows]
  std::int32_t* sum = nullptr;  // [rows]
};
Status quantize_attention(const AttentionRows& arguments, const QuantizedAttention& to,
                          CudaStream stream);

// To f16 without gaps, rounded to nearest even.
Status halve_attention(const AttentionRows& arguments, void* out, CudaStream stream);

}  // namespace liquidgemm::cuda
