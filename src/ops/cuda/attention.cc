#include "ops/cuda/attention.h"

#include <algorithm>
#include <array>
#include <string>

namespace liquidgemm::cuda {

std::int32_t list_units(std::span<const DecodeSequence> sequences, AttentionUnit* units,
                        RowSplits* splits_of_rows) {
  const auto pages_of = [](const DecodeSequence& sequence, std::int32_t split) {
    const std::int32_t tokens = sequence.length - split * numerics::kAttentionSplit;
    return std::min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
  };
  // Where the next unit of so many pages goes: behind all that have more.
  std::array<std::int32_t, kSplitPages + 1> next{};
  for (const DecodeSequence& sequence : sequences) {
    const auto splits = static_cast<std::int32_t>(attention_splits(sequence.length));
    const std::int32_t last = pages_of(sequence, splits - 1);
    for (std::int32_t pages = 1; pages < kSplitPages; ++pages) {
      next[static_cast<std::size_t>(pages)] += splits - 1 + (last > pages ? 1 : 0);
    }
  }
  std::int32_t count = 0;
  for (const DecodeSequence& sequence : sequences) {
    const auto splits = static_cast<std::int32_t>(attention_splits(sequence.length));
    splits_of_rows[sequence.row] = {count, splits};
    for (std::int32_t split = 0; split < splits; ++split) {
      const auto pages = static_cast<std::size_t>(pages_of(sequence, split));
      units[next[pages]++] = {sequence.slot, split, count++};
    }
  }
  return count;
}

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
