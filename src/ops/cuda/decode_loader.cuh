// What loads the pages of decode attention into shared memory (decode_kernel.cuh).
#pragma once

#include <cstdint>

#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/cache_policy.h"
#include "gemm/cuda/ring_slot.cuh"
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
  std::int32_t* units_taken;
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
  std::int32_t tokens;  // 0: there is no split left
  std::int32_t end;     // of these
};
// Splits between loading and computing, and one; a power of two. They begin at a multiple of what
// they take.
inline constexpr int kDecodeRecords = 8;

// A team's place in shared memory:
//
//   K, V of the first warp's page | K, V of the second's | ...
//
// and its barriers: full and empty of K and V of each warp's page, or of the page as a whole. A
// full one completes a phase whenever the place is filled, be there anything to load or not; an
// empty one when what lies there has been read.
template <KvElement kElement, int kWidth, int kTeam>
struct DecodePlace {
  // The halves of an int4 page are small for the memory, which is read faster in larger pieces.
  static constexpr bool kWholePages = kElement == KvElement::kInt4 && kTeam == 1;
  static constexpr int kHalfBytes = kv_half_bytes(kElement, kWidth);
  static constexpr int kPageBytes = 2 * kHalfBytes;
  static constexpr int kBytes = kTeam * kPageBytes;
  static constexpr int kBarriersOfPage = kWholePages ? 2 : 4;
  static constexpr int kBarriers = kBarriersOfPage * kTeam;
  static constexpr int kBarrierBytes = 8 * kBarriers;  // a multiple of 16

  static __host__ __device__ constexpr int keys(int member) { return member * kPageBytes; }
  static __host__ __device__ constexpr int values(int member) { return keys(member) + kHalfBytes; }
  static __host__ __device__ constexpr int keys_full(int member) {
    return 8 * kBarriersOfPage * member;
  }
  static __host__ __device__ constexpr int keys_empty(int member) { return keys_full(member) + 8; }
  // Of a whole page, the same.
  static __host__ __device__ constexpr int values_full(int member) {
    return keys_full(member) + (kWholePages ? 0 : 16);
  }
  static __host__ __device__ constexpr int values_empty(int member) {
    return values_full(member) + 8;
  }
};

// Where the queries of a team's splits go, by turns: q of a KV head's group, and two barriers, full
// and empty. One alone leaves teams of one warp room for another place; they read their queries
// when a split begins, and the next ones are needed four pages later.
template <int kWidth, int kTeam>
struct DecodeQueries {
  static constexpr int kSlots = kTeam == 1 ? 1 : 2;
  static constexpr int kBarrierBytes = 16;  // of a slot
  static constexpr int kFull = 0, kEmpty = 8;

  static __host__ __device__ constexpr int bytes(int group) { return group * kWidth * 2; }
};

// One lane of the loading warp: loads the pages of one warp of a team, of each round of kTeam pages
// of its units one page, into the team's ring of places. It goes split by split, those of a unit
// one after another.
//
// A team's units are every so-many-th. But where warps alone have more than two each, each takes
// another when it is about to end the last: not all get their pages equally fast, and those that
// end first do what is left. (With two, that would leave more of it to some multiprocessors.)
template <KvElement kElement, int kWidth, int kTeam>
class DecodeLoader {
 public:
  using Place = DecodePlace<kElement, kWidth, kTeam>;
  using Slots = DecodeQueries<kWidth, kTeam>;

  // Addresses in shared memory, of a team.
  struct Memory {
    std::uint32_t places, barriers, queries, query_barriers, records;
  };

  // `first_unit` is the team's first, `first`; there is none where that is not less than `total`.
  __device__ __forceinline__ DecodeLoader(const DecodeKernelArguments& arguments, int first,
                                          AttentionUnit first_unit, int stride, int total,
                                          int member, int depth, const Memory& memory)
      : arguments_(arguments),
        stride_(stride),
        total_(total),
        member_(member),
        depth_(depth),
        memory_(memory),
        record_(memory.records),
        number_(first),
        unit_(first_unit),
        takes_(kTeam == 1 && total > 2 * stride),
        done_(first >= total) {
    if (done_) return;
    read_next();
    advance();
  }

  __device__ __forceinline__ bool done() const { return done_; }

  // Loads the next half page, or page, and the queries with the first keys of a split, if there is
  // room. Or reads something about the next split. Whether there was anything to do.
  //
  // kAhead: while the kernel in front may still write queries and the page of the last token. Of
  // the first split alone, the pages before that one; load_first_queries() follows when it has
  // ended.
  template <bool kAhead>
  __device__ __forceinline__ bool load() {
    if (kAhead && page_ + member_ >= old_pages_) return false;
    const bool has_looked = !kAhead && look_ahead();
    if (page_ >= pages_) {
      if (next_ != Next::kRead) return has_looked;
      if (number_ >= total_) return end() || has_looked;
      advance();
    }
    if (!values_next_) {
      if (!has_completed(Place::keys_empty(member_))) return has_looked;
      if (member_ == 0 && page_ == 0) {
        if (!slot_is_empty()) return has_looked;
        if (kAhead) {
          queries_left_ = true;
        } else {
          load_queries(query_slot_.slot, queries_);
        }
        query_slot_.advance(1, Slots::kSlots);
      }
      load_part(Place::keys(member_), Place::keys_full(member_),
                Place::kWholePages ? Place::kPageBytes : Place::kHalfBytes);
      if constexpr (!Place::kWholePages) {
        values_next_ = true;
        return true;
      }
    } else {
      if (!has_completed(Place::values_empty(member_))) return has_looked;
      load_part(Place::values(member_), Place::values_full(member_), Place::kHalfBytes);
      values_next_ = false;
    }
    place_.advance(1, depth_);
    page_ += kTeam;
#pragma unroll
    for (int i = 0; i + 1 < kPages; ++i) ids_[i] = ids_[i + 1];
    return true;
  }

  __device__ __forceinline__ void load_first_queries() const {
    if (queries_left_) load_queries(0, queries_);
  }

 private:
  static constexpr int kPages = kSplitPages / kTeam;  // of one warp in a split

  // What is known of the split behind the one that is loaded: nothing, the number of its unit, the
  // unit, or where everything lies. Each step waits for what the one before has read, so they are
  // some time apart.
  enum class Next { kUnknown, kNumbered, kKnown, kRead };

  __device__ __forceinline__ std::uint32_t barrier_of_place(int offset) const {
    return memory_.barriers +
           static_cast<std::uint32_t>(place_.slot * Place::kBarrierBytes + offset);
  }
  __device__ __forceinline__ bool has_completed(int offset) const {
    return ptx::mbarrier_has_completed(barrier_of_place(offset), place_.parity);
  }
  __device__ __forceinline__ bool slot_is_empty() const {
    return ptx::mbarrier_has_completed(query_barrier(query_slot_.slot) + Slots::kEmpty,
                                       query_slot_.parity);
  }
  __device__ __forceinline__ std::uint32_t query_barrier(int slot) const {
    return memory_.query_barriers + static_cast<std::uint32_t>(slot * Slots::kBarrierBytes);
  }

  // So many bytes of the warp's page to where they lie in its place, `to`.
  __device__ __forceinline__ void load_part(int to, int full, int bytes) const {
    const std::uint32_t barrier = barrier_of_place(full);
    if (page_ + member_ >= pages_) {
      ptx::lane_expect_bytes(barrier, 0);
      return;
    }
    const std::uint8_t* head_page = arguments_.pages + ids_[0] * arguments_.page_bytes +
                                    head_ * std::int64_t{Place::kPageBytes};
    ptx::lane_expect_bytes(barrier, static_cast<std::uint32_t>(bytes));
    ptx::lane_copy_bulk(
        memory_.places + static_cast<std::uint32_t>(place_.slot * Place::kBytes + to),
        head_page + (to - Place::keys(member_)), bytes, barrier, ptx::kEvictFirst);
  }

  __device__ __forceinline__ void load_queries(int slot, int queries) const {
    // It publishes the unit's record too.
    const std::uint32_t barrier = query_barrier(slot) + Slots::kFull;
    const int bytes = Slots::bytes(arguments_.group);
    ptx::lane_expect_bytes(barrier, static_cast<std::uint32_t>(bytes));
    ptx::lane_copy_bulk(memory_.queries + static_cast<std::uint32_t>(slot * bytes),
                        arguments_.q + std::int64_t{queries} * bytes, bytes, barrier,
                        ptx::kEvictNormal);
  }

  // One step; whether there was one to make.
  __device__ __forceinline__ bool look_ahead() {
    switch (next_) {
      case Next::kUnknown:
        if (unit_.splits > 1) {
          ++unit_.split;
          --unit_.splits;
          next_ = Next::kKnown;
          return true;
        }
        if (takes_) {
          if (page_ + 1 < pages_) return false;
          number_ = atomicAdd(arguments_.units_taken, 1);
        }
        next_ = Next::kNumbered;
        return true;
      case Next::kNumbered:
        // Each team asks once in vain. Whoever does so last leaves the number as it was.
        if (takes_ && number_ == total_ - 1) *arguments_.units_taken = 0;
        number_ += stride_;
        if (number_ < total_) unit_ = arguments_.units[number_ / arguments_.kv_heads];
        next_ = number_ < total_ ? Next::kKnown : Next::kRead;
        return true;
      case Next::kKnown: read_next(); return true;
      case Next::kRead: break;
    }
    return false;
  }
  __device__ __forceinline__ void read_next() {
    next_length_ = arguments_.lengths[unit_.slot];
    next_row_ = arguments_.rows[unit_.slot];
    const std::int32_t* table = arguments_.block_tables + unit_.slot * arguments_.ld_block_table;
#pragma unroll
    for (int i = 0; i < kPages; ++i) {
      const std::int64_t page = std::int64_t{unit_.split} * kSplitPages + i * kTeam + member_;
      next_ids_[i] = page < arguments_.ld_block_table ? table[page] : 0;
    }
    next_ = Next::kRead;
  }

  // The next split becomes the one that is loaded.
  __device__ __forceinline__ void advance() {
    next_ = Next::kUnknown;
    page_ = 0;
    head_ = number_ % arguments_.kv_heads;
    queries_ = next_row_ * arguments_.kv_heads + head_;
    const int tokens = next_length_ - unit_.split * numerics::kAttentionSplit;
    const bool leaves = unit_.partial >= 0;
    const int end = (!leaves && unit_.split > 0 ? DecodeRecord::kContinues : 0) |
                    (unit_.splits > 1 ? DecodeRecord::kGoesOn : 0) |
                    (leaves ? DecodeRecord::kLeaves : 0);
    leave_record(
        {leaves ? unit_.partial : next_row_, head_, min(tokens, numerics::kAttentionSplit), end});
    pages_ = min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
    old_pages_ = min((tokens - 1) / kKvPageTokens, kSplitPages);
#pragma unroll
    for (int i = 0; i < kPages; ++i) ids_[i] = next_ids_[i];
  }
  // Nothing is left: tells the team so, if there is room.
  __device__ __forceinline__ bool end() {
    if (member_ == 0) {
      if (!slot_is_empty()) return false;
      leave_record({0, 0, 0, 0});
      ptx::lane_expect_bytes(query_barrier(query_slot_.slot) + Slots::kFull, 0);
    }
    done_ = true;
    return true;
  }
  // What is loaded into the next slot publishes it.
  __device__ __forceinline__ void leave_record(const int (&record)[4]) {
    if (member_ != 0) return;
    ptx::store_shared(record_, record);
    record_ ^=
        (record_ ^ (record_ + sizeof(DecodeRecord))) & (kDecodeRecords * sizeof(DecodeRecord) - 1);
  }

  const DecodeKernelArguments& arguments_;
  const int stride_, total_, member_;
  const int depth_;
  const Memory memory_;
  std::uint32_t record_;                     // the next split's
  RingSlot place_{0, 1}, query_slot_{0, 1};  // which start empty
  // The split that is loaded.
  bool values_next_ = false;
  bool queries_left_ = false;  // they were not written yet
  int head_ = 0, page_ = 0, pages_ = 0;
  int old_pages_ = 0;  // those before the last token's
  int queries_ = 0;    // row and KV head
  std::int32_t ids_[kPages] = {};
  // The one behind it, once that is known: a split and what follows of its unit.
  Next next_ = Next::kUnknown;
  int number_;
  AttentionUnit unit_;
  const bool takes_;
  bool done_;
  std::int32_t next_length_ = 0, next_row_ = 0, next_ids_[kPages] = {};
};

}  // namespace liquidgemm::cuda
