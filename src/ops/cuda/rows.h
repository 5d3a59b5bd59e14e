// What a decoder layer does beside its linear layers and attention, on the GPU: rows in, rows out.
//
// All pointers are device memory. Every call is asynchronous, allocates nothing and may be captured
// in a graph, which then works on whatever the memory holds when it runs. Every result has the bits
// of the CPU's (ops/cpu/ops.h, docs/numerics.md); only which NaN a NaN is may differ.
#pragma once

#include <cstdint>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "ops/cuda/kv_page.h"

namespace liquidgemm::cuda {

// ---- Embedding ---------------------------------------------------------------------------------

// out[row] = table[token] * scale[token]. A token outside the vocabulary gives a row of NaN.
struct EmbedArguments {
  const std::int8_t* table = nullptr;  // [vocab, hidden], 8-byte aligned
  std::int64_t ld_table = 0;           // bytes, a multiple of 8
  const float* scale = nullptr;        // [vocab]
  std::int64_t vocab = 0;
  const std::int32_t* tokens = nullptr;  // [rows]
  std::int64_t rows = 0;
  std::int64_t hidden = 0;  // a multiple of 8
  float* out = nullptr;     // [rows, hidden], 16-byte aligned
  std::int64_t ld_out = 0;  // a multiple of 4
};
Status embed_rows(const EmbedArguments& arguments, CudaStream stream);

// ---- Norm over heads, rotation, write to the cache ---------------------------------------------

// A row of qkv is q heads | k heads | v heads. The heads of q and k are normed where the family has
// a norm, then rotated; q is rounded to f16 (bf16 with a bf16 cache), k and v go to the cache as
// kv_page.h says.
struct NormRopeCacheArguments {
  const float* qkv = nullptr;  // [rows, (heads + 2 kv_heads) * head_dim], 16-byte aligned
  std::int64_t ld_qkv = 0;     // a multiple of 4
  std::int64_t rows = 0;
  int heads = 0;
  int head_dim = 0;               // a multiple of 8; kv_width(head_dim) == shape.width
  const float* q_norm = nullptr;  // [head_dim], 16-byte aligned; null: no norm
  const float* k_norm = nullptr;  // likewise
  float epsilon = 1e-5f;
  // [positions, head_dim / 2], 16-byte aligned.
  const float* cos = nullptr;
  const float* sin = nullptr;
  const std::int32_t* positions = nullptr;  // [rows], below the number of positions
  // [rows], the page that holds the row's position. Negative: nothing of the row is stored.
  const std::int32_t* pages_of_rows = nullptr;

  KvPageShape shape;
  int layer = 0;
  std::uint8_t* pages =
      nullptr;  // page p begins at pages + p * kv_page_bytes(shape); 16-byte aligned

  // Static int8 only, [kv_heads][head_dim], 16-byte aligned: what q is multiplied with before it is
  // rounded, and what k and v are to become codes (numerics::kv_static_code). The query heads are a
  // multiple of the KV heads then.
  const float* k_scale = nullptr;
  const float* k_reciprocal = nullptr;
  const float* v_reciprocal = nullptr;

  void* q = nullptr;  // f16 or bf16 [rows][heads][width], zeros behind head_dim; 8-byte aligned
};
// Ok, or why these heads are refused.
Status can_norm_rope_cache(const KvPageShape& shape, int heads, int head_dim);
Status norm_rope_cache(const NormRopeCacheArguments& arguments, CudaStream stream);

// ---- Some of the rows --------------------------------------------------------------------------

struct GatherMatrix {
  const float* from = nullptr;  // 16-byte aligned
  std::int64_t ld_from = 0;     // a multiple of 4
  float* to = nullptr;          // [rows, width], 16-byte aligned
  std::int64_t ld_to = 0;       // a multiple of 4
};

// to[i] = from[index[i]], for one or two matrices (second.from null).
struct GatherArguments {
  const std::int32_t* index = nullptr;  // [rows]
  std::int64_t rows = 0;
  std::int64_t width = 0;  // a multiple of 4
  GatherMatrix first;
  GatherMatrix second;
};
Status gather_rows(const GatherArguments& arguments, CudaStream stream);

}  // namespace liquidgemm::cuda
