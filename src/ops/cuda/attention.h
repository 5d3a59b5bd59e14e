// Attention over the paged cache (kv_page.h) on a Hopper GPU.
//
// Both kernels compute each row by the one sequence that attention_tile.cuh writes down: a row's
// bits do not depend on which kernel, batch, chunk or order computed it. All pointers are device
// memory. Nothing is allocated or synchronised; every call may be captured in a graph, which then
// serves whatever lists, lengths and counts the memory holds when it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gemm/numerics.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"
#include "ops/cuda/kv_page.h"

namespace liquidgemm::cuda {

inline constexpr int kMaxAttentionGroup = 16;  // query heads of a KV head

// What both kernels read and write.
struct AttentionTensors {
  KvPageShape shape;
  int layer = 0;
  int heads = 0;     // a multiple of shape.kv_heads, at most kMaxAttentionGroup times as many
  int head_dim = 0;  // kv_width(head_dim) == shape.width
  float softmax_scale = 0.0f;
  // f16, or bf16 with a bf16 cache: [rows][heads][width], rotated, zeros behind head_dim; 16-byte
  // aligned.
  const void* q = nullptr;
  const std::uint8_t* pages = nullptr;  // page p begins at pages + p * kv_page_bytes(shape)
  // Static int8 only: the scales of the values, [kv_heads][head_dim]. Those of the keys are in q.
  const float* v_scale = nullptr;
  // Page ids of each slot (a sequence of the batch): [slots][ld_block_table].
  const std::int32_t* block_tables = nullptr;
  std::int64_t ld_block_table = 0;
  // [rows][ld_out], of which heads * head_dim are written.
  float* out = nullptr;
  std::int64_t ld_out = 0;
};

// Ok, or why this shape is refused.
Status can_attend(const KvPageShape& shape, int heads, int head_dim);

// ---- Decode: one row for each sequence ---------------------------------------------------------

// How many splits of numerics::kAttentionSplit tokens a context has.
constexpr std::int64_t attention_splits(std::int64_t tokens) {
  return (tokens + numerics::kAttentionSplit - 1) / numerics::kAttentionSplit;
}

inline constexpr int kSplitPages = numerics::kAttentionSplit / kKvPageTokens;

// Splits `split` to split + splits - 1 of a sequence: one, which leaves a partial result at place
// `partial`, or all that the sequence has, which are put together at once (partial is -1).
struct AttentionUnit {
  std::int32_t slot;
  std::int32_t split;
  std::int32_t splits;
  std::int32_t partial;
};

// Where the partial results of a row's sequence are, one behind another. Of one or none: the row
// itself has the result.
struct RowSplits {
  std::int32_t first_partial;
  std::int32_t splits;
};

struct DecodeSequence {
  std::int32_t slot;
  std::int32_t row;
  std::int32_t length;  // tokens with the current one, at least 1
};

// Lists what there is to do, and where each row finds its results; returns how many units there
// are, at most one for each split. Orders `sequences`.
//
// Partial results cost more than their bytes, since memory does not like to be written and read in
// turn. So a sequence is one unit where that leaves all of the kernel's `teams` (decode_teams)
// equally busy: they take every so-many-th unit, each of a KV head. As many sequences of about the
// same length are taken whole as give each team the same number; the others' splits, the longest
// first, fill what is left. `teams` 0: every split is a unit.
std::int32_t list_units(std::span<DecodeSequence> sequences, int kv_heads, int teams,
                        AttentionUnit* units, RowSplits* splits_of_rows);

// Block tables, lengths, rows and units are read before the kernel in front on the stream has
// ended, and so are keys and values but for those in the page of each sequence's last token: they
// must lie there before that one starts.
struct DecodeAttention {
  AttentionTensors tensors;
  const std::int32_t* lengths = nullptr;  // [slots], tokens with the current one, at least 1
  const std::int32_t* rows = nullptr;     // [slots], the row of q and out
  const AttentionUnit* units = nullptr;   // every split of every sequence, as list_units has them
  const std::int32_t* unit_count = nullptr;  // one number
  std::int32_t* units_taken = nullptr;       // one number: 0 before the launch, and 0 after it
  int max_units = 0;                         // what the workspace was made for
  // decode_attention_workspace_bytes; 16-byte aligned. Receives the result of each split of a
  // sequence that has several, for attention_rows.h to put into its row. Launches of different
  // layers may share it, one after the other.
  void* workspace = nullptr;
  int multiprocessors = 0;  // of CudaDevice
  int sequences = 0;        // that the units are of at most, as far as is known at the call
  // Warps that share a unit: 1, 2 or 4, or 0 for what is best with that many sequences. The bits
  // do not depend on it.
  int team = 0;
};

// Teams that compute at once, on all multiprocessors, in a launch with these `sequences` and `team`
// (DecodeAttention); 0 where it can take no sequence as one unit.
int decode_teams(const KvPageShape& shape, int heads, int sequences, int multiprocessors,
                 int team = 0);

std::size_t decode_attention_workspace_bytes(const KvPageShape& shape, int heads, int max_units);

Status decode_attention(const DecodeAttention& arguments, CudaStream stream);

// ---- Prefill: any number of rows of each sequence ----------------------------------------------

// Consecutive tokens of one sequence, at most prefill_tile_tokens(...). Their keys and values, and
// those of all tokens before them, are in the cache.
struct AttentionTile {
  std::int32_t slot;
  std::int32_t first_row;  // of q and out
  std::int32_t rows;
  std::int32_t first_position;
};

// Tokens that one tile may have.
int prefill_tile_tokens(int heads, int kv_heads);

struct PrefillAttention {
  AttentionTensors tensors;
  const AttentionTile* tiles = nullptr;  // best in descending order of their last position
  int tile_count = 0;
};

Status prefill_attention(const PrefillAttention& arguments, CudaStream stream);

}  // namespace liquidgemm::cuda
