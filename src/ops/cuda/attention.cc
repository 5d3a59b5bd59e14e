#include "ops/cuda/attention.h"

#include <algorithm>
#include <array>
#include <string>

namespace liquidgemm::cuda {

namespace {

struct Range {
  std::size_t first = 0, size = 0;
};

// The sequences that are taken whole, of those in descending order of their length.
Range whole_sequences(std::span<const DecodeSequence> sequences, int kv_heads, int teams) {
  // What one team may have to do more than another.
  constexpr std::int32_t kAlike = 2 * numerics::kAttentionSplit;
  if (teams == 0) return {};
  const auto of_teams = static_cast<std::size_t>(teams);
  const auto heads = static_cast<std::size_t>(kv_heads);
  for (std::size_t rounds = sequences.size() * heads / of_teams; rounds > 0; --rounds) {
    const std::size_t size = rounds * of_teams / heads;
    Range best{0, 0};
    std::int32_t least = kAlike;
    for (std::size_t first = 0; size > 0 && first + size <= sequences.size(); ++first) {
      const std::int32_t apart = sequences[first].length - sequences[first + size - 1].length;
      if (apart > least || (apart == least && best.size > 0)) continue;
      least = apart;
      best = {first, size};
    }
    if (best.size > 0) return best;
  }
  return {};
}

}  // namespace

std::int32_t list_units(std::span<DecodeSequence> sequences, int kv_heads, int teams,
                        AttentionUnit* units, RowSplits* splits_of_rows) {
  std::sort(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) {
    return a.length != b.length ? a.length > b.length : a.slot < b.slot;
  });
  const auto splits_of = [](const DecodeSequence& sequence) {
    return static_cast<std::int32_t>(attention_splits(sequence.length));
  };
  const auto pages_of = [](const DecodeSequence& sequence, std::int32_t split) {
    const std::int32_t tokens = sequence.length - split * numerics::kAttentionSplit;
    return std::min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
  };
  const Range whole = whole_sequences(sequences, kv_heads, teams);
  std::int32_t count = 0;
  for (const DecodeSequence& sequence : sequences.subspan(whole.first, whole.size)) {
    splits_of_rows[sequence.row] = {0, 1};
    units[count++] = {sequence.slot, 0, splits_of(sequence), -1};
  }

  const std::array<std::span<const DecodeSequence>, 2> rest = {
      sequences.first(whole.first), sequences.subspan(whole.first + whole.size)};
  // Where the next unit of so many pages goes: behind all that have more.
  std::array<std::int32_t, kSplitPages + 1> next;
  next.fill(count);
  for (const auto part : rest) {
    for (const DecodeSequence& sequence : part) {
      const std::int32_t splits = splits_of(sequence);
      const std::int32_t last = pages_of(sequence, splits - 1);
      count += splits;
      for (std::int32_t pages = 1; pages < kSplitPages; ++pages) {
        next[static_cast<std::size_t>(pages)] += splits - 1 + (last > pages ? 1 : 0);
      }
    }
  }
  std::int32_t partials = 0;
  for (const auto part : rest) {
    for (const DecodeSequence& sequence : part) {
      const std::int32_t splits = splits_of(sequence);
      splits_of_rows[sequence.row] = {partials, splits};
      for (std::int32_t split = 0; split < splits; ++split) {
        const auto pages = static_cast<std::size_t>(pages_of(sequence, split));
        units[next[pages]++] = {sequence.slot, split, 1, splits > 1 ? partials++ : -1};
      }
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
