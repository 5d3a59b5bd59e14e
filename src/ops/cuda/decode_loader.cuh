// What loads the pages of decode attention into shared memory (decode_kernel.cuh).
#pragma once

#include <cstdint>

#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/cache_policy.h"
#include "ops/cuda/attention_output.cuh"
#include "ops/cuda/attention_tile.cuh"
#include "ops/cuda/ptx/lane_barrier.h"

namespace liquidgemm::cuda {

struct DecodeKernelArguments {
  const std::uint8_t* q;
  const std::uint8_t* pages;  // the layer's part of page 0
  std::int64_t page_bytes;
  const std::int32_t* block_tables;
  std::int64_t ld_block_table;
  AttentionOutput output;
  const std::int32_t* lengths;
  const std::int32_t* rows;
  const AttentionUnit* units;
  const std::int32_t* unit_count;
  float4* partials;
  int max_units;
  int kv_heads;
  int group;
  int places;
  float softmax_scale;
};

// What the arithmetic needs to know of a split, left in shared memory by the loading.
struct alignas(16) DecodeRecord {
  // What becomes of a split's result.
  static constexpr std::int32_t kContinues = 1;  // the splits before have one, which it is added to
  static constexpr std::int32_t kGoesOn = 2;     // the next split will be added to it
  static constexpr std::int32_t kLeaves = 4;     // it is a partial one

  std::int32_t to;  // the row, or the place of the partial result
  std::int32_t head;
  std::int32_t tokens;
  std::int32_t end;  // of these
};
// Splits between loading and computing, and one; a power of two. They begin at a multiple of what
// they take.
inline constexpr int kDecodeRecords = 8;

// A team's place in shared memory:
//
//   K, V of the first warp's page | K, V of the second's | ... | q of the split that begins here
//
// and its barriers: full and empty of K and V of each warp's page, then of q. A full one completes
// a phase whenever the place is filled, be there anything to load or not; an empty one when what
// lies there has been read.
template <KvElement kElement, int kWidth, int kTeam>
struct DecodePlace {
  static constexpr int kHalfBytes = kv_half_bytes(kElement, kWidth);
  static constexpr int kPageBytes = 2 * kHalfBytes;
  static constexpr int kQueries = kTeam * kPageBytes;
  static constexpr int kBarriers = 4 * kTeam + 2;
  static constexpr int kBarrierBytes = 8 * kBarriers;  // a multiple of 16

  static __host__ __device__ constexpr int bytes(int group) {
    return kQueries + group * kWidth * 2;
  }
  static __host__ __device__ constexpr int keys(int member) { return member * kPageBytes; }
  static __host__ __device__ constexpr int values(int member) { return keys(member) + kHalfBytes; }
  static __host__ __device__ constexpr int keys_full(int member) { return 32 * member; }
  static __host__ __device__ constexpr int keys_empty(int member) { return 32 * member + 8; }
  static __host__ __device__ constexpr int values_full(int member) { return 32 * member + 16; }
  static __host__ __device__ constexpr int values_empty(int member) { return 32 * member + 24; }
  static constexpr int kQueriesFull = 32 * kTeam;
  // Unused by a team of one, which has read its queries before the keys behind them.
  static constexpr int kQueriesEmpty = 32 * kTeam + 8;
  // Of barrier i.
  static __host__ __device__ constexpr int arrivals(int i) {
    return 8 * i == kQueriesEmpty ? kTeam : 1;
  }
};

// One lane of the loading warp: loads the pages of one warp of a team, of each round of kTeam pages
// of its units one page, into the team's ring of places. It goes split by split, those of a unit
// one after another.
template <KvElement kElement, int kWidth, int kTeam>
class DecodeLoader {
 public:
  using Place = DecodePlace<kElement, kWidth, kTeam>;

  // `first_unit` is the team's first, `first`.
  __device__ __forceinline__ DecodeLoader(const DecodeKernelArguments& arguments, int first,
                                          AttentionUnit first_unit, int stride, int total,
                                          int member, std::uint32_t ring, std::uint32_t barriers,
                                          int depth, std::uint32_t records)
      : arguments_(arguments),
        stride_(stride),
        total_(total),
        member_(member),
        ring_(ring),
        barriers_(barriers),
        depth_(depth),
        record_(records),
        next_{first, first_unit},
        after_next_(following(next_)) {
    read_work();
    advance();
    is_first_ = true;
    first_queries_ = queries_;
  }

  __device__ __forceinline__ bool done() const { return unit_ >= total_; }

  // Loads the next half page, and the queries with the first keys of a split, if there is room.
  //
  // kAhead: while the kernel in front may still write queries and the page of the last token. Of
  // the first split alone, the pages before that one; load_first_queries() follows when it has
  // ended.
  template <bool kAhead>
  __device__ __forceinline__ bool load() {
    if (kAhead && (!is_first_ || page_ + member_ >= old_pages_)) return false;
    if (!values_next_) {
      if (!ptx::mbarrier_has_completed(barrier_of(place_, Place::keys_empty(member_)), parity_)) {
        return false;
      }
      if (member_ == 0) {
        if (kTeam > 1 &&
            !ptx::mbarrier_has_completed(barrier_of(place_, Place::kQueriesEmpty), parity_)) {
          return false;
        }
        if (kAhead && page_ == 0) {
          queries_left_ = true;
        } else {
          load_queries();
        }
      }
      load_half(Place::keys(member_), Place::keys_full(member_), 0);
      values_next_ = true;
      return true;
    }
    if (!ptx::mbarrier_has_completed(barrier_of(place_, Place::values_empty(member_)), parity_)) {
      return false;
    }
    load_half(Place::values(member_), Place::values_full(member_), Place::kHalfBytes);
    values_next_ = false;
    if (++place_ == depth_) {
      place_ = 0;
      parity_ ^= 1;
    }
    page_ += kTeam;
#pragma unroll
    for (int i = 0; i + 1 < kPages; ++i) ids_[i] = ids_[i + 1];
    if (page_ >= pages_) advance();
    return true;
  }

  __device__ __forceinline__ void load_first_queries() const {
    if (queries_left_) load_queries(0, first_queries_);
  }

 private:
  static constexpr int kPages = kSplitPages / kTeam;  // of one warp in a split

  __device__ __forceinline__ std::uint32_t address_of(int place, int offset) const {
    return ring_ + static_cast<std::uint32_t>(place * Place::bytes(arguments_.group) + offset);
  }
  __device__ __forceinline__ std::uint32_t barrier_of(int place, int offset) const {
    return barriers_ + static_cast<std::uint32_t>(place * Place::kBarrierBytes + offset);
  }

  __device__ __forceinline__ void load_half(int to, int full, int from) const {
    const std::uint32_t barrier = barrier_of(place_, full);
    if (page_ + member_ >= pages_) {
      ptx::lane_expect_bytes(barrier, 0);
      return;
    }
    const std::uint8_t* head_page = arguments_.pages + ids_[0] * arguments_.page_bytes +
                                    head_ * std::int64_t{Place::kPageBytes};
    ptx::lane_expect_bytes(barrier, Place::kHalfBytes);
    ptx::lane_copy_bulk(address_of(place_, to), head_page + from, Place::kHalfBytes, barrier,
                        ptx::kEvictFirst);
  }

  __device__ __forceinline__ void load_queries() const {
    if (page_ != 0) {
      ptx::lane_expect_bytes(barrier_of(place_, Place::kQueriesFull), 0);
    } else {
      load_queries(place_, queries_);
    }
  }
  __device__ __forceinline__ void load_queries(int place, int queries) const {
    // It publishes the unit's record too.
    const std::uint32_t barrier = barrier_of(place, Place::kQueriesFull);
    const int bytes = arguments_.group * kWidth * 2;
    ptx::lane_expect_bytes(barrier, static_cast<std::uint32_t>(bytes));
    ptx::lane_copy_bulk(address_of(place, Place::kQueries),
                        arguments_.q + std::int64_t{queries} * bytes, bytes, barrier,
                        ptx::kEvictNormal);
  }

  // A split, the first of what is left of its unit.
  struct Work {
    int number;
    AttentionUnit unit;
  };
  __device__ __forceinline__ Work following(const Work& work) const {
    if (work.unit.splits > 1) {
      return {work.number,
              {work.unit.slot, work.unit.split + 1, work.unit.splits - 1, work.unit.partial}};
    }
    const int number = work.number + stride_;
    return {number,
            number < total_ ? arguments_.units[number / arguments_.kv_heads] : AttentionUnit{}};
  }

  // About next_.
  __device__ __forceinline__ void read_work() {
    if (next_.number >= total_) return;
    const AttentionUnit& unit = next_.unit;
    next_length_ = arguments_.lengths[unit.slot];
    next_row_ = arguments_.rows[unit.slot];
    const std::int32_t* table = arguments_.block_tables + unit.slot * arguments_.ld_block_table;
#pragma unroll
    for (int i = 0; i < kPages; ++i) {
      const std::int64_t page = std::int64_t{unit.split} * kSplitPages + i * kTeam + member_;
      next_ids_[i] = page < arguments_.ld_block_table ? table[page] : 0;
    }
  }

  // The next split becomes the one that is loaded; starts reading about those behind it.
  __device__ __forceinline__ void advance() {
    is_first_ = false;
    unit_ = next_.number;
    page_ = 0;
    if (unit_ >= total_) return;
    const AttentionUnit& unit = next_.unit;
    head_ = unit_ % arguments_.kv_heads;
    queries_ = next_row_ * arguments_.kv_heads + head_;
    const int tokens = next_length_ - unit.split * numerics::kAttentionSplit;
    if (member_ == 0) {
      const bool leaves = unit.partial >= 0;
      const int end = (!leaves && unit.split > 0 ? DecodeRecord::kContinues : 0) |
                      (unit.splits > 1 ? DecodeRecord::kGoesOn : 0) |
                      (leaves ? DecodeRecord::kLeaves : 0);
      const int record[4] = {leaves ? unit.partial : next_row_, head_,
                             min(tokens, numerics::kAttentionSplit), end};
      ptx::store_shared(record_, record);
      record_ ^= (record_ ^ (record_ + sizeof(DecodeRecord))) &
                 (kDecodeRecords * sizeof(DecodeRecord) - 1);
    }
    pages_ = min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
    old_pages_ = min((tokens - 1) / kKvPageTokens, kSplitPages);
#pragma unroll
    for (int i = 0; i < kPages; ++i) ids_[i] = next_ids_[i];
    next_ = after_next_;
    read_work();
    after_next_ = following(next_);
  }

  const DecodeKernelArguments& arguments_;
  const int stride_, total_, member_;
  const std::uint32_t ring_, barriers_;
  const int depth_;
  std::uint32_t record_;      // the next split's
  std::uint32_t parity_ = 1;  // the ring starts empty
  bool values_next_ = false;
  bool is_first_ = false;      // the first split is loaded,
  bool queries_left_ = false;  // whose queries were not written yet
  int unit_ = 0, head_ = 0, page_ = 0, pages_ = 0, place_ = 0;
  int old_pages_ = 0;                    // those before the last token's
  int queries_ = 0, first_queries_ = 0;  // row and KV head, of this split and of the first
  std::int32_t ids_[kPages] = {};
  Work next_, after_next_;
  std::int32_t next_length_ = 0, next_row_ = 0, next_ids_[kPages] = {};
};

}  // namespace liquidgemm::cuda
