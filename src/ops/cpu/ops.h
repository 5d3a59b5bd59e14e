// Everything a decoder layer does beside its linear layers, on the CPU: one row or one head a call,
// so that the backend decides how work is spread over threads.
//
// The same source (kernels_impl.h) is compiled once for each instruction set; every set gives the
// same bits, because each function follows a sequence of gemm/numerics.h.
#pragma once

#include <cstdint>

#include "gemm/gemm.h"

namespace liquidgemm {

// The keys and values of one KV head in one page, token-major. Exactly one of the pairs is used.
//
//   page of one layer and head:  K [64][head_dim] | V [64][head_dim] | K scale [64] | V scale [64]
//
// (f16 pages have no scales.)
struct KvPageView {
  const std::uint16_t* k_f16 = nullptr;
  const std::uint16_t* v_f16 = nullptr;
  const std::int8_t* k_int8 = nullptr;
  const std::int8_t* v_int8 = nullptr;
  const float* k_scale = nullptr;
  const float* v_scale = nullptr;
};

inline constexpr int kPageTokens = 64;

// One query head's partial result over one split of the context (numerics.h, Attention).
struct AttentionPart {
  float max = 0.0f;
  float sum = 0.0f;
  float* out = nullptr;  // [head_dim], not yet divided by sum
};

struct CpuOps {
  // sum[i] over the row in the contract's tree.
  float (*sum_of_squares)(const float* x, std::int64_t width);
  // out = (x * reciprocal) * weight with reciprocal from the row's sum of squares. out may be x.
  void (*rms_norm)(const float* x, const float* weight, float* out, std::int64_t width, float eps);
  // x += y
  void (*add)(float* x, const float* y, std::int64_t width);
  // out = silu(gate) * up
  void (*silu_multiply)(const float* gate, const float* up, float* out, std::int64_t width);
  // Rotates one head in place, Hugging Face's half layout: (x[i], x[i + d/2]) by angle i.
  // cos, sin: [head_dim / 2] of this position. x1' = x1*cos - x2*sin, x2' = x2*cos + x1*sin.
  void (*rope)(float* head, const float* cos, const float* sin, std::int64_t head_dim);
  // Binary16, round to nearest even.
  void (*to_f16)(const float* x, std::uint16_t* out, std::int64_t width);
  // INT8 by the contract's row rule (as activations): returns the scale.
  float (*to_int8)(const float* x, std::int8_t* out, std::int64_t width);

  // One query vector against `tokens` (1 .. kAttentionSplit) tokens that start at a split boundary;
  // pages[0 .. ceil(tokens/64)) in order. `queries` query vectors (the GQA group that shares this KV
  // head) at stride head_dim, parts[queries]. `scratch` holds queries * kAttentionSplit floats.
  void (*attention_split)(const float* q, std::int64_t queries, const KvPageView* pages,
                          std::int64_t tokens, std::int64_t head_dim, float softmax_scale,
                          AttentionPart* parts, float* scratch);
  // total (an earlier split's part or the running result) = total combined with part.
  void (*attention_combine)(AttentionPart* total, const AttentionPart* part, std::int64_t head_dim);
  // out[d] = total.out[d] / total.sum
  void (*attention_finish)(const AttentionPart* total, float* out, std::int64_t head_dim);
};

// The table for an ISA that this machine has (check_isa).
const CpuOps& cpu_ops(Isa isa);

}  // namespace liquidgemm
