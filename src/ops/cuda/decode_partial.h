// What decode attention leaves of a sequence of several splits.
#pragma once

namespace liquidgemm::cuda {

// float4s of the partial result of a split and KV head: o [query head of the group][width], then
// m, l [query head]. In the workspace: [AttentionUnit::partial][KV head].
constexpr int decode_partial_size(int width, int group) {
  return group * (width / 4) + (group + 1) / 2;
}

}  // namespace liquidgemm::cuda
