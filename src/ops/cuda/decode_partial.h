// What decode attention leaves of a sequence of several splits.
#pragma once

#include "ops/cuda/kv_page.h"

namespace liquidgemm::cuda {

// Whether a team can keep the result of a sequence's splits so far: not where its warps' rows take
// all registers, two tiles of them or, for a warp alone, two columns.
LIQUIDGEMM_KV_PAGE bool decode_keeps(int tiles, int columns, int team) {
  return tiles == 1 && (columns == 1 || team > 1);
}

// Where four dimensions, 4 chunk .. 4 chunk + 3, lie among the float4s of a head's o: the first
// four of each eighth of the dimensions, then the second, ... A lane has dimensions of one eighth;
// so the eight lanes of a head write whole sectors at a time, and not a piece of each.
LIQUIDGEMM_KV_PAGE int decode_partial_place(int width, int chunk) {
  const int of_eighth = width / 32;
  return chunk % of_eighth * 8 + chunk / of_eighth;
}

// float4s of the partial result of a split and KV head: o [query head of the group][width], then
// m, l [query head]. In the workspace: [AttentionUnit::partial][KV head].
constexpr int decode_partial_size(int width, int group) {
  return group * (width / 4) + (group + 1) / 2;
}

}  // namespace liquidgemm::cuda
