// A row of values, one for each token, held in the shared memory of a cluster of eight thread
// blocks: read from device memory once, then filtered, summed and drawn from in place.
//
// The row is cut into 128 runs of equal capacity, one for each warp of the cluster, in ascending
// ids. A run is a list: values of the tokens still in play, moved to its front, and a bitmask that
// says which tokens they are.
//
//   block 0                                        block 1
//   warp 0          warp 1          ...  warp 15   warp 0  ...
//   [v v v v . .  ] [v v . . . .  ]      [v ...]   [...]          v: in play, .: free
//   mask 110110..   mask 000011..
//
// Position p in the list of all tokens in play is position p - start of the run that holds it.
// Sums follow ops/lane_sum.h and ops/sampling.cc: blocks of 1024 positions, each in eight lanes.
//
// What a block writes to the others (the arrays marked "gathered") is read after a barrier of the
// cluster, and written again only after another one that follows the reads.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "gemm/cuda/ptx/remote.h"
#include "ops/cuda/float_key.cuh"
#include "ops/cuda/sampling.h"

namespace liquidgemm::cuda {

inline constexpr int kClusterBlocks = 8;
inline constexpr int kRowThreads = 512;
inline constexpr int kRowWarps = kRowThreads / 32;
inline constexpr int kRuns = kClusterBlocks * kRowWarps;
inline constexpr int kSumBlock = 1024;
inline constexpr int kBins = 2048;
inline constexpr int kMaxSumBlocks = (kMaxCudaVocabulary + kSumBlock - 1) / kSumBlock;
inline constexpr std::uint32_t kAllLanes = 0xFFFFFFFFu;

// How a vocabulary is spread over the blocks.
struct RowGeometry {
  int vocabulary;
  int sum_blocks;  // of 1024 tokens, in a thread block's slice

  explicit RowGeometry(int size)
      : vocabulary(size),
        sum_blocks(((size + kSumBlock - 1) / kSumBlock + kClusterBlocks - 1) / kClusterBlocks) {}

  __host__ __device__ int slice() const { return sum_blocks * kSumBlock; }
  __host__ __device__ int capacity() const { return slice() / kRowWarps; }
  // Eight floats more: then the lanes of four blocks of a sum lie in different banks.
  __host__ __device__ int stride() const { return capacity() + 8; }
  __host__ __device__ int mask_words() const { return capacity() / 32; }
  // Shared memory beside RowShared.
  int bytes() const { return kRowWarps * (stride() + mask_words()) * 4; }
};
static_assert(kMaxSumBlocks / kClusterBlocks * 8 <= kRowThreads, "a thread for each lane of a sum");

struct RowScan {
  std::uint32_t key;    // of the largest value
  std::uint32_t token;  // the first that has it
  std::uint32_t flags;

  static constexpr std::uint32_t kNan = 1, kFinite = 2;
  // No NaN, at least one finite value.
  __device__ bool usable() const { return flags == kFinite; }
  __device__ float max() const { return key_float(key); }
};

struct RowShared {
  RowScan scans[kClusterBlocks];         // gathered
  RowScan warp_scans[kRowWarps];         //
  std::int32_t run_length[kRuns];        // gathered
  std::int32_t run_start[kRuns + 1];     //
  std::int32_t tie_count[kRuns];         // gathered
  double sums[kMaxSumBlocks];            // gathered, then made running sums
  double total;                          //
  std::int32_t chosen_block;             //
  std::uint32_t bin_low[kBins];          // two halves of a sum in fixed point, read by others
  std::uint32_t bin_high[kBins];         //
  double bin_sum[kBins];                 // gathered
  std::uint16_t bin_index[kBins];        //
  std::int32_t warp_total[kRowWarps];    //
  double cut_above;                      //
  std::uint32_t cut_prefix;              //
  std::int32_t cut_ties, cut_kept_ties;  //
  std::int32_t listed_bins;              //

  // The weights of one block of 1024, when no bins are in use.
  __device__ float* block_weights() { return reinterpret_cast<float*>(bin_low); }
};

class RowCluster {
 public:
  __device__ RowCluster(const RowGeometry& geometry, RowShared& shared, float* memory)
      : geometry_(geometry),
        shared_(shared),
        values_(memory),
        rank_(static_cast<int>(cooperative_groups::this_cluster().block_rank())),
        warp_(static_cast<int>(threadIdx.x / 32)),
        lane_(static_cast<int>(threadIdx.x % 32)) {}

  __device__ void barrier() const { cooperative_groups::this_cluster().sync(); }
  // The same object in another block's shared memory.
  template <typename T>
  __device__ T* remote(T* object, int rank) const {
    return ptx::remote(object, rank);
  }

  __device__ RowShared& shared() const { return shared_; }
  __device__ int rank() const { return rank_; }
  __device__ int warp() const { return warp_; }
  __device__ int lane() const { return lane_; }
  __device__ int run() const { return rank_ * kRowWarps + warp_; }
  __device__ std::uint32_t lanes_below() const { return (1u << lane_) - 1u; }

  // ---- This warp's run -------------------------------------------------------------------------

  __device__ int first_token() const { return run() * geometry_.capacity(); }
  __device__ int length() const { return length_; }
  __device__ float* list() const { return values_ + warp_ * geometry_.stride(); }

  // Puts all tokens in play with value(load(token)).
  template <typename Load, typename Value>
  __device__ void fill(const Load& load, const Value& value) {
    constexpr int kAhead = 8;
    const int first = first_token();
    length_ = min(max(geometry_.vocabulary - first, 0), geometry_.capacity());
    float* const to = list();
    for (int begin = lane_; begin < length_; begin += 32 * kAhead) {
      float loaded[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = begin + 32 * i;
        loaded[i] = at < length_ ? load(first + at) : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = begin + 32 * i;
        if (at < length_) to[at] = value(loaded[i]);
      }
    }
    std::uint32_t* const mask = mask_of(warp_);
    for (int w = lane_; w < geometry_.mask_words(); w += 32) {
      const int rest = length_ - 32 * w;
      mask[w] = rest >= 32 ? kAllLanes : rest <= 0 ? 0u : (1u << rest) - 1u;
    }
    for (int r = static_cast<int>(threadIdx.x); r <= kRuns; r += kRowThreads) {
      shared_.run_start[r] = min(r * geometry_.capacity(), geometry_.vocabulary);
    }
    filtered_ = false;
    __syncthreads();
  }

  template <typename Value>
  __device__ void transform(const Value& value) {
    float* const values = list();
    for (int i = lane_; i < length_; i += 32) values[i] = value(values[i]);
    __syncthreads();
  }

  // While all tokens are in play: where a token's value is, null in other blocks.
  __device__ float* slot(int token) const {
    const int local = token - rank_ * geometry_.slice();
    if (local < 0 || local >= geometry_.slice() || token >= geometry_.vocabulary) return nullptr;
    const int run = local / geometry_.capacity();
    return values_ + run * geometry_.stride() + (local - run * geometry_.capacity());
  }

  // Keeps the tokens for which stays(present, value) is true. The whole warp calls it for every 32
  // tokens, in ascending order; `present`: this lane's token is in play.
  template <typename Stays>
  __device__ void filter(const Stays& stays) {
    float* const values = list();
    std::uint32_t* const mask = mask_of(warp_);
    int from = 0, to = 0;
    for (int w = 0; w < geometry_.mask_words(); ++w) {
      const std::uint32_t before = mask[w];
      if (before == 0) continue;
      const bool present = (before >> lane_ & 1u) != 0;
      const float value = present ? values[from + __popc(before & lanes_below())] : 0.0f;
      const bool stay = stays(present, value);
      const std::uint32_t after = __ballot_sync(kAllLanes, present && stay);
      __syncwarp();
      if (present && stay) values[to + __popc(after & lanes_below())] = value;
      if (lane_ == 0) mask[w] = after;
      __syncwarp();
      from += __popc(before);
      to += __popc(after);
    }
    length_ = to;
  }

  // visit(value, token, position) for the tokens in play of this run, after publish().
  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
    const std::uint32_t* const mask = mask_of(warp_);
    int from = 0;
    for (int w = 0; w < geometry_.mask_words(); ++w) {
      const std::uint32_t word = mask[w];
      const int at = from + __popc(word & lanes_below());
      if ((word >> lane_ & 1u) != 0) {
        visit(list()[at], first_token() + 32 * w + lane_, shared_.run_start[run()] + at);
      }
      from += __popc(word);
    }
  }

  // ---- The whole row ---------------------------------------------------------------------------

  // Of all tokens in play, the same in every block.
  __device__ RowScan scan() const {
    float largest = -INFINITY;
    int at = -1;
    bool nan = false, finite = false;
    for (int i = lane_; i < length_; i += 32) {
      const float x = list()[i];
      nan |= x != x;
      finite |= fabsf(x) <= FLT_MAX;
      if (x > largest) {
        largest = x;
        at = first_token() + i;
      }
    }
    const RowScan own = reduce({float_key(largest), static_cast<std::uint32_t>(at),
                                (nan ? RowScan::kNan : 0u) | (finite ? RowScan::kFinite : 0u)});
    if (lane_ == 0) shared_.warp_scans[warp_] = own;
    __syncthreads();
    if (warp_ == 0) {
      const RowScan block = reduce(shared_.warp_scans[lane_ % kRowWarps]);
      if (lane_ < kClusterBlocks) *remote(&shared_.scans[rank_], lane_) = block;
    }
    barrier();
    return reduce(shared_.scans[lane_ % kClusterBlocks]);
  }

  // After filter(): tells every block where the runs now begin in the list.
  __device__ void publish() {
    if (lane_ < kClusterBlocks) *remote(&shared_.run_length[run()], lane_) = length_;
    barrier();
    if (warp_ == 0) {
      constexpr int kEach = kRuns / 32;
      int own[kEach];
      int sum = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        own[i] = shared_.run_length[lane_ * kEach + i];
        sum += own[i];
      }
      int start = inclusive_sum(sum) - sum;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        shared_.run_start[lane_ * kEach + i] = start;
        start += own[i];
      }
      if (lane_ == 31) shared_.run_start[kRuns] = start;
    }
    filtered_ = true;
    __syncthreads();
  }
  // Tokens in play.
  __device__ int size() const { return shared_.run_start[kRuns]; }

  // total_of() of ops/sampling.cc, the same in every block. Leaves the running sums over the blocks
  // of 1024 in `sums`.
  template <typename Weight>
  __device__ double total(const Weight& weight) const {
    const int local = static_cast<int>(threadIdx.x / 8);
    const int block = rank_ * geometry_.sum_blocks + local;
    const int left = size() - block * kSumBlock;
    const int count = local < geometry_.sum_blocks ? min(max(left, 0), kSumBlock) : 0;
    const double sum = filtered_ ? lane_sum_anywhere(block * kSumBlock, count, weight)
                                 : lane_sum_here(local * kSumBlock, count, weight);
    // The halves fold as in sum_of; all eight lanes come to the same bits.
    double folded = sum + __shfl_xor_sync(kAllLanes, sum, 4);
    folded += __shfl_xor_sync(kAllLanes, folded, 2);
    folded += __shfl_xor_sync(kAllLanes, folded, 1);
    if (count > 0) *remote(&shared_.sums[block], static_cast<int>(threadIdx.x % 8)) = folded;
    barrier();
    if (threadIdx.x == 0) {
      const int blocks = (size() + kSumBlock - 1) / kSumBlock;
      double running = 0.0;
#pragma unroll 8
      for (int b = 0; b < blocks; ++b) {
        running += shared_.sums[b];
        shared_.sums[b] = running;
      }
      shared_.total = running;
      shared_.chosen_block = 0;
    }
    __syncthreads();
    return shared_.total;
  }

  // draw() of ops/sampling.cc, right after total() with the same weights: the first token at which
  // the running sum exceeds the target. One thread of the cluster calls emit(token).
  template <typename Weight, typename Emit>
  __device__ void draw(double target, const Weight& weight, const Emit& emit) const {
    const int blocks = (size() + kSumBlock - 1) / kSumBlock;
    for (int b = static_cast<int>(threadIdx.x); b < blocks; b += kRowThreads) {
      const bool reached = shared_.sums[b] > target;
      if (reached && (b == 0 || !(shared_.sums[b - 1] > target))) shared_.chosen_block = b;
    }
    __syncthreads();
    const int block = shared_.chosen_block;
    if (block / geometry_.sum_blocks != rank_) return;
    float* const weights = shared_.block_weights();
    const int begin = block * kSumBlock;
    for (int i = static_cast<int>(threadIdx.x); i < kSumBlock; i += kRowThreads) {
      weights[i] = begin + i < size() ? weight(*at(begin + i)) : 0.0f;
    }
    __syncthreads();
    if (warp_ != 0) return;
    int found = 0;
    if (lane_ == 0) found = walk(weights, block == 0 ? 0.0 : shared_.sums[block - 1], target);
    found = __shfl_sync(kAllLanes, found, 0);
    const int token = token_at(begin + found);
    if (lane_ == 0) emit(token);
  }

  // Over the warp.
  __device__ int inclusive_sum(int value) const {
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, value, distance);
      if (lane_ >= distance) value += other;
    }
    return value;
  }

 private:
  // The masks of this block's run `warp`, behind all values.
  __device__ std::uint32_t* mask_of(int warp) const {
    return reinterpret_cast<std::uint32_t*>(values_ + kRowWarps * geometry_.stride()) +
           warp * geometry_.mask_words();
  }

  __device__ static RowScan reduce(RowScan own) {
    const std::uint32_t key = __reduce_max_sync(kAllLanes, own.key);
    const std::uint32_t token =
        __reduce_min_sync(kAllLanes, own.key == key ? own.token : kAllLanes);
    return {key, token, __reduce_or_sync(kAllLanes, own.flags)};
  }

  // The run that holds a position: the last one that starts at or before it.
  __device__ int run_of(int position) const {
    int run = 0;
#pragma unroll
    for (int half = kRuns / 2; half > 0; half /= 2) {
      if (shared_.run_start[run + half] <= position) run += half;
    }
    return run;
  }

  __device__ const float* at(int position) const {
    const int run = run_of(position);
    float* const local = values_ + run % kRowWarps * geometry_.stride();
    const int rank = run / kRowWarps;
    return (rank == rank_ ? local : remote(local, rank)) + (position - shared_.run_start[run]);
  }

  // One of the eight lanes of sum_of over `count` positions; what is left over is lane 0's.
  template <typename Weight>
  __device__ double lane_sum_anywhere(int begin, int count, const Weight& weight) const {
    const int lane = static_cast<int>(threadIdx.x % 8);
    const int even = count & ~7;
    double sum = 0.0;
#pragma unroll 4
    for (int i = lane; i < even; i += 8) sum += static_cast<double>(weight(*at(begin + i)));
    if (lane == 0) {
      for (int i = even; i < count; ++i) sum += static_cast<double>(weight(*at(begin + i)));
    }
    return sum;
  }
  // The same while all tokens are in play: `begin` in this block's slice.
  template <typename Weight>
  __device__ double lane_sum_here(int begin, int count, const Weight& weight) const {
    const int lane = static_cast<int>(threadIdx.x % 8);
    const int even = count & ~7;
    // Capacities are multiples of 64, so eight positions lie in one run.
    const int run = begin / geometry_.capacity();
    int left = (run + 1) * geometry_.capacity() - begin;
    const float* from = values_ + begin + 8 * run;
    double sum = 0.0;
#pragma unroll 8
    for (int i = 0; i < even; i += 8) {
      sum += static_cast<double>(weight(from[lane]));
      from += 8;
      left -= 8;
      if (left == 0) {
        from += 8;
        left = geometry_.capacity();
      }
    }
    if (lane == 0) {
      for (int i = 0; i < count - even; ++i) sum += static_cast<double>(weight(from[i]));
    }
    return sum;
  }

  // The place in a block of 1024 at which the running sum exceeds the target, by one thread.
  __device__ static int walk(const float* weights, double running, double target) {
    constexpr int kStep = 16;
    int i = 0;
    for (; i < kSumBlock; i += kStep) {
      double next = running;
#pragma unroll
      for (int j = 0; j < kStep; ++j) next += static_cast<double>(weights[i + j]);
      if (next > target) break;
      running = next;
    }
    for (; i < kSumBlock; ++i) {
      running += static_cast<double>(weights[i]);
      if (running > target) return i;
    }
    // Token by token the sum may round to just below the block's: then its last token.
    for (i = kSumBlock - 1; i > 0 && !(weights[i] > 0.0f); --i) {
    }
    return i;
  }

  // By a whole warp.
  __device__ int token_at(int position) const {
    if (!filtered_) return position;
    const int run = run_of(position);
    const std::uint32_t* const mask = remote(mask_of(run % kRowWarps), run / kRowWarps);
    int rest = position - shared_.run_start[run];
    for (int first = 0; first < geometry_.mask_words(); first += 32) {
      const std::uint32_t word = first + lane_ < geometry_.mask_words() ? mask[first + lane_] : 0u;
      const int through = inclusive_sum(__popc(word));
      const std::uint32_t past = __ballot_sync(kAllLanes, through > rest);
      if (past == 0) {
        rest -= __shfl_sync(kAllLanes, through, 31);
        continue;
      }
      const int source = __ffs(static_cast<int>(past)) - 1;
      rest -= __shfl_sync(kAllLanes, through - __popc(word), source);
      const std::uint32_t bits = __shfl_sync(kAllLanes, word, source);
      const bool here = (bits >> lane_ & 1u) != 0 && __popc(bits & lanes_below()) == rest;
      const int bit = __ffs(static_cast<int>(__ballot_sync(kAllLanes, here))) - 1;
      return run * geometry_.capacity() + 32 * (first + source) + bit;
    }
    return -1;
  }

  const RowGeometry& geometry_;
  RowShared& shared_;
  float* const values_;
  const int rank_, warp_, lane_;
  int length_ = 0;
  bool filtered_ = false;
};

}  // namespace liquidgemm::cuda
