// Everything a decoder layer does beside its linear layers, on the CPU: one row or one head a call,
// so that the backend decides how work is spread over threads.
//
// The same source (kernels_impl.h) is compiled once for each instruction set; every set gives the
// same bits, because each function follows a sequence of gemm/numerics.h.
#pragma once

#include <cstdint>

#include "gemm/gemm.h"
#include "gemm/numerics.h"

namespace liquidgemm {

enum class Bf16 : std::uint16_t {};  // the bits of a bfloat16

// The keys and values of one KV head in one page. Exactly one of the pairs is used.
//
//   page of one layer and head:  K [head_dim][64] | V [64][head_dim] | K scale [64] | V scale [64]
//
// (Only int8 pages have scales, and not those of the static cache.) Keys lie dimension by
// dimension, so that a vector register takes one dimension of many tokens; values token by token,
// so that it takes many dimensions of one.
struct KvPageView {
  const float* k_f32 = nullptr;
  const float* v_f32 = nullptr;
  const std::uint16_t* k_f16 = nullptr;
  const std::uint16_t* v_f16 = nullptr;
  const Bf16* k_bf16 = nullptr;
  const Bf16* v_bf16 = nullptr;
  const std::int8_t* k_int8 = nullptr;
  const std::int8_t* v_int8 = nullptr;
  const float* k_scale = nullptr;
  const float* v_scale = nullptr;
};

inline constexpr int kPageTokens = 64;
// Pages that hold so many tokens.
inline constexpr std::int64_t pages_for(std::int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

// One query head's partial result over one split of the context (numerics.h, Attention).
struct AttentionPart {
  float max = 0.0f;
  float sum = 0.0f;
  float* out = nullptr;  // [head_dim], not yet divided by sum
};

// The largest head_dim that attention takes.
inline constexpr std::int64_t kMaxHeadDim = 512;

// Floats of scratch for `queries` query vectors in one call of attention_split or attention_rows.
constexpr std::int64_t attention_scratch_floats(std::int64_t queries) {
  return queries * numerics::kAttentionSplit;
}

// Bits are the same on every ISA but for one thing: which NaN a NaN is (sign and payload).
struct CpuOps {
  // sum[i] over the row in the contract's tree.
  float (*sum_of_squares)(const float* x, std::int64_t width);
  // out = (x * reciprocal) * weight with reciprocal from the row's sum of squares. out may be x.
  void (*rms_norm)(const float* x, const float* weight, float* out, std::int64_t width, float eps);
  // x += y
  void (*add)(float* x, const float* y, std::int64_t width);
  // out = silu(gate) * up. out may be gate or up.
  void (*silu_multiply)(const float* gate, const float* up, float* out, std::int64_t width);
  // Rotates one head in place, Hugging Face's half layout: (x[i], x[i + d/2]) by angle i.
  // cos, sin: [head_dim / 2] of this position. x1' = x1*cos - x2*sin, x2' = x2*cos + x1*sin.
  void (*rope)(float* head, const float* cos, const float* sin, std::int64_t head_dim);
  // Binary16, round to nearest even, as base/half.h bit for bit (a NaN keeps its sign only).
  void (*to_f16)(const float* x, std::uint16_t* out, std::int64_t width);
  // bfloat16, round to nearest even, as base/half.h bit for bit.
  void (*to_bf16)(const float* x, Bf16* out, std::int64_t width);
  // INT8 by the contract's row rule (as activations): returns the scale.
  float (*to_int8)(const float* x, std::int8_t* out, std::int64_t width);
  // The static cache's codes, numerics::kv_static_code with one reciprocal for each value.
  void (*to_int8_static)(const float* x, const float* reciprocal, std::int8_t* out,
                         std::int64_t width);
  // out = exp_contract(x - shift). out may be x.
  void (*exp_minus)(const float* x, float shift, float* out, std::int64_t width);

  // Query vectors against `tokens` (1 .. kAttentionSplit) tokens that start at a split boundary;
  // pages[0 .. ceil(tokens/64)) in order. `queries` query vectors (the GQA group that shares this
  // KV head) at stride head_dim, parts[queries]. `scratch` holds attention_scratch_floats(queries).
  // What slots of the last page past `tokens` hold makes no difference (keys of up to 64 tokens are
  // read at once). 1 <= head_dim <= kMaxHeadDim.
  void (*attention_split)(const float* q, std::int64_t queries, const KvPageView* pages,
                          std::int64_t tokens, std::int64_t head_dim, float softmax_scale,
                          AttentionPart* parts, float* scratch);
  // The same for several rows (tokens of one sequence in ascending position) of a prompt at once:
  // keys and values are converted once for all of them, so this is the call for prefill.
  //
  //   query (r, g)    q + r * row_stride + g * head_dim, r < rows, g < group
  //   parts           [rows * group], row after row
  //   row r sees      the first min(tokens, visible + r) tokens of the split, visible >= 1
  //
  // Rows 0 .. of a chunk that starts at position p, against the split that starts at s <= p:
  // visible = p + 1 - s. A query's result does not depend on the others in the call, so the caller
  // may cut the rows as it likes; 32 to 128 queries a call keep the scratch in the cache. `then` is
  // the page whose keys will most likely be read after these, if any: they are asked for early.
  void (*attention_rows)(const float* q, std::int64_t rows, std::int64_t row_stride,
                         std::int64_t group, std::int64_t visible, const KvPageView* pages,
                         std::int64_t tokens, std::int64_t head_dim, float softmax_scale,
                         const KvPageView& then, AttentionPart* parts, float* scratch);
  // total (an earlier split's part or the running result) = total combined with part.
  void (*attention_combine)(AttentionPart* total, const AttentionPart* part, std::int64_t head_dim);
  // out[d] = total.out[d] / total.sum
  void (*attention_finish)(const AttentionPart* total, float* out, std::int64_t head_dim);
};

// The table for an ISA that this machine has (check_isa).
const CpuOps& cpu_ops(Isa isa);

}  // namespace liquidgemm
