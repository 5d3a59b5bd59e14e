// Where the results of attention go.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda {

struct AttentionOutput {
  float* out;
  std::int64_t ld_out;
  int head_dim;
  bool aligned;          // rows are written four floats at a time
  const float* v_scale;  // [KV head][head_dim], of a static cache

  // o / l, dimensions d .. d + 3 of a row and query head; kScaled: with the scales of the values.
  template <bool kScaled>
  __device__ __forceinline__ void write(std::int64_t row, int kv_head, int head, int d,
                                        const float4& o, float l) const {
    float4 four = make_float4(o.x / l, o.y / l, o.z / l, o.w / l);
    if constexpr (kScaled) {
      const float* scale = v_scale + kv_head * std::int64_t{head_dim} + d;
      if (d < head_dim) four.x = four.x * scale[0];
      if (d + 1 < head_dim) four.y = four.y * scale[1];
      if (d + 2 < head_dim) four.z = four.z * scale[2];
      if (d + 3 < head_dim) four.w = four.w * scale[3];
    }
    float* to = out + row * ld_out + head * std::int64_t{head_dim} + d;
    if (aligned && d + 4 <= head_dim) {
      *reinterpret_cast<float4*>(to) = four;
    } else {
      if (d < head_dim) to[0] = four.x;
      if (d + 1 < head_dim) to[1] = four.y;
      if (d + 2 < head_dim) to[2] = four.z;
      if (d + 3 < head_dim) to[3] = four.w;
    }
  }
};

}  // namespace liquidgemm::cuda
