// The W4A8 GEMM on Hopper: LiquidQuant weights through an implicit fine-grained pipeline.
//
//             one producer                    several consumer warp groups
//   HBM, L2 --- TMA: packed weights ---------> registers: 16 bytes -> 2 fragments (unpack.h)
//           \-- TMA: X8, 128-byte swizzle ---> wgmma m64nNk32, u8 x s8, sums in registers
//                 ring of stages, each 128 columns of K, full and empty mbarriers
//
// Nothing is synchronised between unpacking and multiplying: a warp group unpacks the next half
// stage into the fragments that its last but one wgmma has freed, and meanwhile the tensor cores
// run the last one, and the other warp groups' (docs/kernels.md).
//
// A tile is row_groups * row_blocks * 64 weight rows by `tokens` tokens. Consumer warp groups:
// `row_groups` lie beside each other along the rows, `depth_groups` take turns along K.
#pragma once

#include "gemm/cuda/layout.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "gemm/cuda/ptx/thread.h"
#include "gemm/cuda/ptx/wgmma.h"
#include "gemm/cuda/ring_slot.cuh"
#include "gemm/cuda/segments.cuh"
#include "gemm/cuda/tile_sizes.h"
#include "gemm/cuda/unpack.h"

namespace liquidgemm::cuda {

template <int kTokensOfTile, int kRowBlocksOfGroup, int kRowGroupsOfTile, int kDepthGroupsOfTile,
          int kGroup, Unpack kUnpackOfTile = Unpack::kUnsigned>
struct W4A8Config {
  static constexpr TileSizes kSizes{kTokensOfTile, kRowBlocksOfGroup, kRowGroupsOfTile,
                                    kDepthGroupsOfTile, kGroup};
  static constexpr int kTokens = kTokensOfTile;
  static constexpr int kRowBlocks = kRowBlocksOfGroup;  // 64-row blocks of one warp group
  static constexpr int kRowGroups = kRowGroupsOfTile;
  static constexpr int kDepthGroups = kDepthGroupsOfTile;
  static constexpr int kGroupSize = kGroup;
  static constexpr Unpack kUnpack = kUnpackOfTile;

  static constexpr int kTileBlocks = kSizes.tile_blocks();
  static constexpr int kConsumers = kSizes.warp_groups() * 128;
  static constexpr int kSums = kRowBlocks * kTokens / 2;  // registers of one thread
  // The loader is one warp. Where the sums need most of the registers, it is a whole warp group,
  // because only a warp group can hand its registers over; a lone consumer has all it can name.
  static constexpr bool kRedistribute = kSums >= (kConsumers == 512 ? 32 : 64) && kConsumers > 128;
  static constexpr int kLoaderRegisters = kConsumers == 256 ? 24 : 56;
  static constexpr int kConsumerRegisters = kConsumers == 256 ? 240 : kConsumers == 384 ? 152 : 104;
  static constexpr int kThreads = kConsumers + (kRedistribute ? 128 : 32);
  static constexpr int kXBytes = kSizes.x_bytes();
  static constexpr int kBlockBytes = block_bytes(kGroupSize);
  static constexpr int kBlockLines = kBlockBytes / kLineBytes;
  static constexpr int kTokenUnits = kSizes.token_units();
  static constexpr int kUnits = kSizes.units();
  template <bool kGated>
  static constexpr int kChunk = kSizes.chunk_units(kGated);
  // 0: ungated float outputs go straight from the registers.
  static constexpr int kFloatChunk = kSizes.float_chunk_units();
  static constexpr int kOutputBytes = kSizes.output_bytes();
  static constexpr int kStagingBytes = kSizes.staging_bytes();
  static constexpr int kScaleBytes = kSizes.scale_bytes();
  static constexpr int kPartialUnits = kSizes.partial_units();
  static_assert(kUnits % (kPartialUnits > 0 ? kPartialUnits : 1) == 0);
};

// Shared memory: X of every stage (1,024-byte aligned), the epilogue's staging, weights of every
// stage, scales of every warp group, barriers. The ring is reused to exchange sums when the main
// loop is over; `exchanged` counts the bytes that arrive, one barrier for each row group.
// `previous_ended` tells the loader that the consumers are done waiting for the kernel before.
template <class Config>
struct SharedMemory {
  std::uint32_t x, staging, weights, scales, full, empty, exchanged, previous_ended;

  __device__ SharedMemory(std::uint32_t base, int stages)
      : x(base),
        staging(base + stages * Config::kXBytes),
        weights(staging + Config::kStagingBytes),
        scales(weights + stages * Config::kTileBlocks * Config::kBlockBytes),
        full(scales + Config::kConsumers / 128 * Config::kScaleBytes),
        empty(full + stages * 8),
        exchanged(empty + stages * 8),
        previous_ended(exchanged + Config::kRowGroups * 8) {}
  __device__ std::uint32_t x_stage(int slot) const { return x + slot * Config::kXBytes; }
  __device__ std::uint32_t block(int slot, int row_block) const {
    return weights + (slot * Config::kTileBlocks + row_block) * Config::kBlockBytes;
  }
};

// Named barriers of a block; those of the warp groups follow.
inline constexpr int kBarriersSetBarrier = 0;  // consumers arrive, the loader waits
inline constexpr int kStartBarrier = 1;        // the loader arrives, consumers wait
inline constexpr int kRingLeftBarrier = 2;     // consumers among themselves
inline constexpr int kGroupBarrier = 3;        // of warp group 0

// How a block starts. Whatever comes before the first copy costs every launch, and setting up the
// barriers takes long: so the loader does the first slot's and asks for its weights, the consumer
// warps do the others' and go on with what else they need. With multicast, blocks arrive at each
// other's barriers: all of the cluster start together.
template <class Config>
struct Start {
  static constexpr int kThreads = Config::kConsumers + 32;
  const W4A8Parameters& p;
  const SharedMemory<Config>& shared;

  // A whole warp.
  __device__ __forceinline__ void set_barriers(int first, int end, int step) const {
#pragma unroll 1
    for (int slot = first; slot < end; slot += step) {
      ptx::mbarrier_init(shared.full + slot * 8, 1);
      ptx::mbarrier_init(shared.empty + slot * 8, Config::kRowGroups * 4 * p.multicast);
    }
    ptx::mbarrier_init_fence();
    __syncwarp();
  }
  // A consumer warp has set its barriers;
  __device__ __forceinline__ void announce() const {
    if (p.multicast > 1) {
      ptx::cluster_arrive();
    } else {
      ptx::named_barrier_arrive(kBarriersSetBarrier, kThreads);
    }
  }
  // needs those of the others.
  __device__ __forceinline__ void await() const {
    if (p.multicast > 1) {
      ptx::cluster_wait();
    } else {
      ptx::named_barrier(kStartBarrier, kThreads);
    }
  }
  // The loader has set its own and needs all.
  __device__ __forceinline__ void join() const {
    if (p.multicast > 1) {
      ptx::cluster_barrier();
    } else {
      ptx::named_barrier(kBarriersSetBarrier, kThreads);
      ptx::named_barrier_arrive(kStartBarrier, kThreads);
    }
  }
};

struct TileOrigin {
  int row_block;
  int token;
};

template <class Config>
__device__ __forceinline__ TileOrigin tile_origin(const W4A8Parameters& p, int tile, int row_rank) {
  // Token tiles of the same rows follow each other: the weights come from HBM once. The last tile
  // is moved back until it is full, because the copy engine takes long to write what lies outside a
  // tensor; what two tiles share is written twice, the same bits.
  int row_tile = tile, token_tile = 0;
  if (p.token_tiles > 1) {
    row_tile = p.by_token_tiles.divide(tile);
    token_tile = tile - row_tile * p.token_tiles;
  }
  return {min((row_tile * p.multicast + row_rank) * Config::kTileBlocks, p.last_row_block),
          min(token_tile * Config::kTokens, p.last_token)};
}

// The column blocks that this block of a cluster takes of a segment.
__device__ __forceinline__ Segment split_segment(const W4A8Parameters& p, Segment segment,
                                                 int rank) {
  if (p.split == 1) return segment;
  const auto begin = [&](int r) { return r * p.split_share + min(r, p.split_extra); };
  return {segment.tile, begin(rank), begin(rank + 1)};
}

// ---- Producer: one warp ----------------------------------------------------------------------

// All 32 lanes run this with equal values (ptx/copy.h).
template <class Config>
struct Producer {
  const W4A8Parameters& p;
  const SharedMemory<Config>& shared;
  int row_rank;

  // One stage's weights, all row blocks of the tile.
  __device__ __forceinline__ void load_weights(int slot, int row_block, int column_block) const {
    const std::uint32_t barrier = shared.full + slot * 8;
    ptx::mbarrier_expect_bytes(barrier, p.stage_bytes);
    ptx::copy_tensor(shared.block(slot, 0), &p.w_map, 0, column_block * Config::kBlockLines,
                     row_block, barrier, p.weight_policy);
  }
  // The weights of the stages behind the first that do not have to wait for the kernel before,
  // until that has ended: returns how many stages are under way. Not all at once, but at a rate
  // that leaves memory some time: what that kernel and the ones beside it read would queue behind
  // weights that nobody can use yet (docs/gpu.md).
  __device__ __forceinline__ int load_ahead(int most, int row_block, int column_block) const {
    constexpr unsigned kWholeWarp = 0xFFFFFFFF;
    const auto begun = static_cast<unsigned>(clock());
    int stage = 1;
#pragma unroll 1
    for (; stage < min(most, p.burst); ++stage) {
      load_weights(stage, row_block, column_block + stage);
    }
#pragma unroll 1
    for (; stage < most; ++stage) {
      const unsigned due = (stage + 1 - p.burst) * p.pace;
      bool ended, is_due;
      do {
        ended = __any_sync(kWholeWarp, ptx::mbarrier_has_completed(shared.previous_ended, 0));
        is_due = __any_sync(kWholeWarp, static_cast<unsigned>(clock()) - begun >= due);
      } while (!ended && !is_due);
      if (ended) break;
      load_weights(stage, row_block, column_block + stage);
    }
    return stage;
  }
  // Where there are fewer tokens than a tile has, the rest of the stage keeps what it holds: sums
  // of those columns are not stored.
  __device__ __forceinline__ void load_tokens(int slot, int token, int column_block) const {
    const std::uint32_t barrier = shared.full + slot * 8;
    const int column = column_block * kBlockColumns;
    if (p.multicast == 1) {
      ptx::copy_tensor(shared.x_stage(slot), &p.x_map, column, token, barrier, p.x_policy);
      return;
    }
    // Each block of the cluster fetches its half of the tokens for both.
    constexpr std::uint16_t kEveryone = (1 << kLargestMulticast) - 1;
    const int share = row_rank * p.x_rows;
    ptx::copy_tensor_multicast(shared.x_stage(slot) + share * kBlockColumns, &p.x_map, column,
                               token + share, barrier, kEveryone, p.x_policy);
  }

  // The sums that worker `other` left of this tile, as stages of the ring.
  __device__ __forceinline__ void load_partial(RingSlot& at, int other) const {
    constexpr int kLines = Config::kPartialUnits * kUnitBytes / kLineBytes;
    const int group = (other * p.multicast + row_rank) * Config::kRowGroups;
#pragma unroll 1
    for (int i = 0; i < Config::kRowGroups; ++i) {
      ptx::wait_for_flag(p.flags + group + i);
    }
    ptx::fence_for_bulk_copies();
#pragma unroll 1
    for (int stage = 0; stage < Config::kUnits / Config::kPartialUnits; ++stage) {
      ptx::mbarrier_wait(shared.empty + at.slot * 8, at.parity);
      const std::uint32_t barrier = shared.full + at.slot * 8;
      ptx::mbarrier_expect_bytes(barrier, Config::kRowGroups * kLines * kLineBytes);
      ptx::copy_tensor(shared.x_stage(at.slot), &p.partial_map, 0, stage * kLines, group, barrier,
                       ptx::kEvictFirst);
      at.advance(1, p.stages);
    }
  }

  __device__ __forceinline__ void run(int worker, int split_rank) const {
    const Start<Config> start{p, shared};
    RingSlot at;
    at.parity = 1;  // the ring starts empty
    Segment segment;
    SegmentIterator segments(p, worker);
    bool first = true;
    while (segments.next(segment)) {
      segment = split_segment(p, segment, split_rank);
      const TileOrigin origin = tile_origin<Config>(p, segment.tile, row_rank);
      int column = segment.begin;
      if (first) {
        // The weights of the first stages do not depend on the kernel before; the tokens do.
        start.set_barriers(at.slot, at.slot + 1, 1);
        load_weights(at.slot, origin.row_block, column);
        start.join();
        const int ahead =
            load_ahead(min(p.ahead, segment.end - segment.begin), origin.row_block, column);
        ptx::wait_for_previous_kernel();
#pragma unroll 1
        for (; column < segment.begin + ahead; ++column) {
          load_tokens(at.slot, origin.token, column);
          at.advance(1, p.stages);
        }
        first = false;
      }
#pragma unroll 1
      for (; column < segment.end; ++column) {
        ptx::mbarrier_wait(shared.empty + at.slot * 8, at.parity);
        load_weights(at.slot, origin.row_block, column);
        load_tokens(at.slot, origin.token, column);
        at.advance(1, p.stages);
      }
      if constexpr (Config::kDepthGroups == 1 && Config::kPartialUnits > 0) {
        if (p.split == 1 && segment.begin == 0) {
          ContributorIterator others(p, worker, segment);
          int other;
          while (others.next(other)) load_partial(at, other);
        }
      }
    }
  }
};

// ---- Consumers -------------------------------------------------------------------------------

template <class Config>
struct Consumer {
  static constexpr int kRowBlocks = Config::kRowBlocks;
  static constexpr int kTokens = Config::kTokens;
  using Codes = PackedCodes<Config::kGroupSize, Config::kUnpack>;

  const W4A8Parameters& p;
  const SharedMemory<Config>& shared;
  int warp, group, row_group, depth_group, thread;  // thread of the warp group
  RingSlot at;
  std::uint32_t remote_empty;  // with multicast: the empty barriers of block `lane` of the cluster
  bool releases_own, releases_remote;
  typename Codes::Place place;  // of this thread in the first stage
  int sums[kRowBlocks][kTokens / 2];

  __device__ Consumer(const W4A8Parameters& parameters, const SharedMemory<Config>& memory,
                      int warp_of_block, int own_rank)
      : p(parameters), shared(memory), warp(warp_of_block) {
    group = warp / 4;
    row_group = Config::kDepthGroups == 1 ? group : group % Config::kRowGroups;
    depth_group = Config::kDepthGroups == 1 ? 0 : group / Config::kRowGroups;
    thread = threadIdx.x % 128;
    at.advance(depth_group, p.stages);
    const int lane = thread % 32;
    releases_own = lane == 0 && p.multicast == 1;
    releases_remote = lane < p.multicast && p.multicast > 1;
    remote_empty = ptx::remote_address(shared.empty, releases_remote ? lane : own_rank);
    // Through a shuffle, or the assembler derives them anew in every stage.
    place = Codes::place(shared.block(0, row_group * kRowBlocks), thread);
    place.codes = __shfl_sync(0xFFFFFFFF, place.codes, lane);
    place.steps = __shfl_sync(0xFFFFFFFF, place.steps, lane);
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) sums[r][i] = 0;
    }
  }
  // All threads of this warp group.
  __device__ __forceinline__ void group_barrier() const {
    ptx::named_barrier(kGroupBarrier + group, 128);
  }
  __device__ __forceinline__ std::uint32_t scales() const {
    return shared.scales + group * Config::kScaleBytes;
  }
  __device__ __forceinline__ void wait_full() const {
    ptx::mbarrier_wait(shared.full + at.slot * 8, at.parity);
  }
  // Tells the producers of the cluster that this warp is done with a slot; nothing for -1. The
  // wait for wgmma before it has brought the warp together.
  __device__ __forceinline__ void release(int slot) const {
    ptx::mbarrier_arrive(shared.empty + slot * 8, releases_own && slot >= 0);
    ptx::mbarrier_arrive_remote(remote_empty + slot * 8, releases_remote && slot >= 0);
  }
  __device__ __forceinline__ void load_codes(Codes (&codes)[kRowBlocks], int half) const {
    const std::uint32_t stage = at.slot * (Config::kTileBlocks * Config::kBlockBytes);
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
      codes[r].load(place, stage + r * Config::kBlockBytes, half);
    }
  }
  // The wgmma of half a stage, 64 columns, as one group.
  __device__ __forceinline__ void multiply(const std::uint32_t (&fragments)[kRowBlocks][2][4],
                                           int half) {
    const std::uint32_t b =
        ptx::swizzled_descriptor_low(shared.x_stage(at.slot)) + half * 2 * ptx::kDescriptorK32;
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 2; ++step) {
#pragma unroll
      for (int r = 0; r < kRowBlocks; ++r) {
        const std::uint64_t tokens = ptx::swizzled_descriptor(b + step * ptx::kDescriptorK32);
        if constexpr (Config::kUnpack == Unpack::kUnsigned) {
          ptx::wgmma_u8s8<kTokens>(sums[r], fragments[r][step], tokens, 1);
        } else {
          ptx::wgmma_s8s8<kTokens>(sums[r], fragments[r][step], tokens, 1);
        }
      }
    }
    ptx::wgmma_commit();
  }

  // Adds the sums that another worker left, as the producer fetched them.
  __device__ __forceinline__ void add_fetched_partial() {
    constexpr int kPartialUnits = Config::kPartialUnits;
#pragma unroll
    for (int stage = 0; stage < Config::kUnits / kPartialUnits; ++stage) {
      wait_full();
#pragma unroll
      for (int i = 0; i < kPartialUnits; ++i) {
        int part[4];
        ptx::load_shared(
            shared.x_stage(at.slot) + (row_group * kPartialUnits + i) * kUnitBytes + thread * 16,
            part);
        const int unit = stage * kPartialUnits + i;
        int* const sum = &sums[unit / Config::kTokenUnits][unit % Config::kTokenUnits * 4];
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[j] += part[j];
      }
      __syncwarp();
      release(at.slot);
      at.advance(1, p.stages);
    }
  }

  // Column blocks [begin, end) of a tile into `sums`; this warp group takes every
  // kDepthGroups-th.
  __device__ __forceinline__ void accumulate(int begin, int end) {
    const int left = (end - begin - depth_group + Config::kDepthGroups - 1) / Config::kDepthGroups;
    clear();
    if (left <= 0) return;
    Codes codes[2][kRowBlocks];
    std::uint32_t fragments[2][kRowBlocks][2][4];
    int previous = -1;
    for (int i = 0; i < left; ++i) {
      wait_full();
      load_codes(codes[0], 0);
      // Two groups may be in flight; the one before the last has freed fragments[0].
      ptx::wgmma_wait<1>();
#pragma unroll
      for (int r = 0; r < kRowBlocks; ++r) codes[0][r].unpack(fragments[0][r]);
      load_codes(codes[1], 1);
      multiply(fragments[0], 0);
      ptx::wgmma_wait<1>();
      // Now every wgmma of the stage before is done.
      release(previous);
      previous = at.slot;
#pragma unroll
      for (int r = 0; r < kRowBlocks; ++r) codes[1][r].unpack(fragments[1][r]);
      multiply(fragments[1], 1);
      at.advance(Config::kDepthGroups, p.stages);
    }
    ptx::wgmma_wait<0>();
    release(previous);
  }
};

}  // namespace liquidgemm::cuda
