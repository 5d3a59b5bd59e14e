// The scales of a static INT8 cache: one a channel, a dimension of a KV head, of keys and of values
// (docs/numerics.md). A checkpoint may hold them (docs/format.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace liquidgemm {

// Of one layer, [kv_heads][head_dim] each.
struct KvScales {
  std::vector<float> k, v;
};

inline std::string kv_scale_tensor(std::int64_t layer, const char* suffix) {
  return "model.layers." + std::to_string(layer) + ".self_attn." + suffix;
}
inline std::string k_scale_tensor(std::int64_t layer) { return kv_scale_tensor(layer, "k_scale"); }
inline std::string v_scale_tensor(std::int64_t layer) { return kv_scale_tensor(layer, "v_scale"); }

// What values are multiplied with to become codes.
inline std::vector<float> reciprocals(const std::vector<float>& scales) {
  std::vector<float> result;
  result.reserve(scales.size());
  for (const float scale : scales) result.push_back(1.0f / scale);
  return result;
}

}  // namespace liquidgemm
