#include "ops/cuda/attention.h"

#include <string>

namespace liquidgemm::cuda {

Status can_attend(const KvPageShape& shape, int heads, int head_dim) {
  if (shape.layers < 1 || shape.kv_heads < 1 || heads < 1) {
    return invalid_argument("attention needs layers, KV heads and heads, at least one of each");
  }
  if (kv_width(head_dim) == 0) {
    return unsupported("attention on the GPU has head dimensions of 1 to " +
                       std::to_string(kKvMaxWidth) + ", not " + std::to_string(head_dim));
  }
  if (shape.width != kv_width(head_dim)) {
    return invalid_argument("a head dimension of " + std::to_string(head_dim) +
                            " is kept in rows of " + std::to_string(kv_width(head_dim)) +
                            ", not of " + std::to_string(shape.width));
  }
  if (heads % shape.kv_heads != 0 || heads / shape.kv_heads > kMaxAttentionGroup) {
    return unsupported("attention on the GPU needs 1 to " + std::to_string(kMaxAttentionGroup) +
                       " heads for each KV head, the same for all, not " + std::to_string(heads) +
                       " for " + std::to_string(shape.kv_heads));
  }
  return ok_status();
}

}  // namespace liquidgemm::cuda
