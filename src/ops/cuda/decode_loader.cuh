// What loads the pages of decode attention into shared memory (decode_kernel.cuh).
#pragma once

#include <cstdint>

#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "ops/cuda/attention_tile.cuh"

namespace liquidgemm::cuda {

struct DecodeKernelArguments {
  const std::uint8_t* q;
  const std::uint8_t* pages;  // the layer's part of page 0
  std::int64_t page_bytes;
  const std::int32_t* block_tables;
  std::int64_t ld_block_table;
  float* out;
  std::int64_t ld_out;
  const std::int32_t* lengths;
  const std::int32_t* rows;
  const AttentionUnit* units;
  const std::int32_t* unit_count;
  unsigned* counters;
  float4* partials;
  int max_units;
  int kv_heads;
  int group;
  int head_dim;
  int places;
  float softmax_scale;
  const float* v_scale;  // of a static cache
  bool aligned;
};

// What the arithmetic needs to know of a unit, left in shared memory by the loading.
struct alignas(16) DecodeRecord {
  std::int32_t slot, row, head, length;
  std::int32_t split, position, padding[2];
};
// Units between loading and computing, and one; a power of two.
inline constexpr int kDecodeRecords = 8;

// A team's place in shared memory:
//
//   K, V of the first warp's page | K, V of the second's | ... | q of the unit that begins here
//
// and its barriers: K and V of each warp's page, then q. Each of them completes one phase whenever
// the place is filled, be there anything to load or not.
template <KvElement kElement, int kWidth, int kTeam>
struct DecodePlace {
  static constexpr int kHalfBytes = kv_half_bytes(kElement, kWidth);
  static constexpr int kPageBytes = 2 * kHalfBytes;
  static constexpr int kQueries = kTeam * kPageBytes;
  static constexpr int kBarrierBytes = 8 * (2 * kTeam + 2);  // a multiple of 16

  static __host__ __device__ constexpr int bytes(int group) {
    return kQueries + group * kWidth * 2;
  }
  static __host__ __device__ constexpr int keys(int member) { return member * kPageBytes; }
  static __host__ __device__ constexpr int values(int member) { return keys(member) + kHalfBytes; }
  static __host__ __device__ constexpr int keys_barrier(int member) { return 16 * member; }
  static __host__ __device__ constexpr int values_barrier(int member) { return 16 * member + 8; }
  static constexpr int kQueriesBarrier = 16 * kTeam;
};

// Loads the pages of one warp of a team: of each round of kTeam pages of its units one page, into
// the team's ring of places. All lanes call everything.
template <KvElement kElement, int kWidth, int kTeam>
class DecodeLoader {
 public:
  using Place = DecodePlace<kElement, kWidth, kTeam>;

  // `first_unit` is the team's first, `first`.
  __device__ __forceinline__ DecodeLoader(const DecodeKernelArguments& arguments, int first,
                                          AttentionUnit first_unit, int stride, int total,
                                          int member, int lane, std::uint32_t ring,
                                          std::uint32_t barriers, int depth, DecodeRecord* records)
      : arguments_(arguments),
        stride_(stride),
        total_(total),
        member_(member),
        lane_(lane),
        q_bytes_(arguments.group * kWidth * 2),
        place_bytes_(Place::bytes(arguments.group)),
        ring_(ring),
        barriers_(barriers),
        depth_(depth),
        records_(records),
        unit_(first - stride),
        next_(first_unit),
        after_next_(read_unit(first + stride)) {
    read_work(first);
    advance();
  }

  // The K half of the warp's page of the next round.
  __device__ __forceinline__ void load_keys() {
    if (unit_ >= total_) return;
    const std::uint32_t barrier = barrier_of(Place::keys_barrier(member_));
    if (page_ + member_ < pages_) {
      const int id = __shfl_sync(kWholeWarp, page_id_, page_ + member_);
      source_ =
          arguments_.pages + id * arguments_.page_bytes + head_ * std::int64_t{Place::kPageBytes};
      ptx::mbarrier_expect_bytes(barrier, Place::kHalfBytes);
      ptx::copy_bulk(address_of(Place::keys(member_)), source_, Place::kHalfBytes, barrier,
                     ptx::kEvictFirst);
    } else {
      ptx::mbarrier_expect_bytes(barrier, 0);
    }
  }

  // q with the first round of a unit, by the team's first warp.
  __device__ __forceinline__ void load_queries() {
    if (member_ != 0 || unit_ >= total_) return;
    const std::uint32_t barrier = barrier_of(Place::kQueriesBarrier);
    if (page_ == 0) {
      ptx::mbarrier_expect_bytes(barrier, static_cast<std::uint32_t>(q_bytes_));
      const std::int64_t row = std::int64_t{row_} * arguments_.kv_heads + head_;
      ptx::copy_bulk(address_of(Place::kQueries), arguments_.q + row * q_bytes_, q_bytes_, barrier,
                     ptx::kEvictNormal);
    } else {
      ptx::mbarrier_expect_bytes(barrier, 0);
    }
  }

  // The V half of the page of load_keys; moves on to the next round.
  __device__ __forceinline__ void load_values() {
    if (unit_ >= total_) return;
    const std::uint32_t barrier = barrier_of(Place::values_barrier(member_));
    if (page_ + member_ < pages_) {
      ptx::mbarrier_expect_bytes(barrier, Place::kHalfBytes);
      ptx::copy_bulk(address_of(Place::values(member_)), source_ + Place::kHalfBytes,
                     Place::kHalfBytes, barrier, ptx::kEvictFirst);
    } else {
      ptx::mbarrier_expect_bytes(barrier, 0);
    }
    if (++place_ == depth_) place_ = 0;
    page_ += kTeam;
    if (page_ >= pages_) advance();
  }

 private:
  __device__ __forceinline__ std::uint32_t address_of(int offset) const {
    return ring_ + static_cast<std::uint32_t>(place_ * place_bytes_ + offset);
  }
  __device__ __forceinline__ std::uint32_t barrier_of(int offset) const {
    return barriers_ + static_cast<std::uint32_t>(place_ * Place::kBarrierBytes + offset);
  }

  __device__ __forceinline__ AttentionUnit read_unit(int unit) const {
    return unit < total_ ? arguments_.units[unit / arguments_.kv_heads] : AttentionUnit{0, 0};
  }

  // Of next_, which is `unit`: lane i reads the page id of its page i.
  __device__ __forceinline__ void read_work(int unit) {
    next_length_ = 0;
    next_row_ = 0;
    next_page_id_ = 0;
    if (unit >= total_) return;
    next_length_ = arguments_.lengths[next_.slot];
    next_row_ = arguments_.rows[next_.slot];
    const std::int64_t page = std::int64_t{next_.split} * kSplitPages + lane_;
    if (lane_ < kSplitPages && page < arguments_.ld_block_table) {
      next_page_id_ = arguments_.block_tables[next_.slot * arguments_.ld_block_table + page];
    }
  }

  // The next unit becomes the one that is loaded; starts reading about those behind it.
  __device__ __forceinline__ void advance() {
    unit_ += stride_;
    page_ = 0;
    if (unit_ >= total_) return;
    head_ = unit_ % arguments_.kv_heads;
    row_ = next_row_;
    page_id_ = next_page_id_;
    const int tokens = next_length_ - next_.split * numerics::kAttentionSplit;
    pages_ = min((tokens + kKvPageTokens - 1) / kKvPageTokens, kSplitPages);
    if (lane_ == 0) {
      DecodeRecord& record = records_[recorded_ % kDecodeRecords];
      record.slot = next_.slot;
      record.row = row_;
      record.head = head_;
      record.length = next_length_;
      record.split = next_.split;
      record.position = unit_ / arguments_.kv_heads;
    }
    ++recorded_;
    next_ = after_next_;
    read_work(unit_ + stride_);
    after_next_ = read_unit(unit_ + 2 * stride_);
  }

  const DecodeKernelArguments& arguments_;
  const int stride_, total_, member_, lane_, q_bytes_, place_bytes_;
  const std::uint32_t ring_, barriers_;
  const int depth_;
  DecodeRecord* const records_;
  const std::uint8_t* source_ = nullptr;
  int unit_, head_ = 0, row_ = 0, page_ = 0, pages_ = 0, place_ = 0, page_id_ = 0;
  unsigned recorded_ = 0;
  AttentionUnit next_, after_next_;
  std::int32_t next_length_ = 0, next_row_ = 0, next_page_id_ = 0;
};

}  // namespace liquidgemm::cuda
