// Decode attention: one row for each sequence.
//
// A team of kTeam warps computes one unit after the other: one split of one sequence, or all of
// them in turn, and one KV head, whose query heads are the rows. A round is kTeam pages of a split,
// one for each warp (decode_rows.cuh); with fewer units on the GPU a larger team has its result
// sooner. Teams share nothing but the block's shared memory, cut into places of one round each,
// which are dealt out to the teams that have work:
//
//   records of each team | queries of each team | places | barriers of each place | barriers of the
//   queries of each team | exchange of each team
//
// One more warp does nothing but load, each of its lanes for one of the others (decode_loader.cuh);
// the three that complete its warp group end at once. A team's places are a ring. As soon as a K
// half has been read its place takes in the K half of the round `depth` rounds on, of the team's
// next split if need be, and so for V: loads wait neither for arithmetic nor for the end of a
// split. Int4, whose halves are small, is loaded page by page. What tells where to load from is
// read while there is nothing to load.
//
// A sequence that is one unit is finished by its team. Otherwise each split leaves (m, l, o) in the
// workspace, and the kernel behind this one combines them (attention_rows.cu): to find out which
// team is the last one would make every team wait for the end of its stores.
//
// The lists of what there is to do, and where, are read before the kernel in front has ended, and
// the pages of each team's first unit loaded, but for the last token's, which that kernel writes.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/thread.h"
#include "liquidgemm/status.h"
#include "ops/cuda/decode_loader.cuh"
#include "ops/cuda/decode_rows.cuh"

namespace liquidgemm::cuda {

inline constexpr int kDecodeSharedBytes = 232448;  // what a block may have on this architecture
inline constexpr int kWholeBlock = 15;             // named barrier; teams have those below

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
struct DecodeShape {
  using Place = DecodePlace<kElement, kWidth, kTeam>;
  using Queries = DecodeQueries<kWidth, kTeam>;
  using Exchange = DecodeExchange<kElement, kTiles, kColumns, kTeam>;

  static constexpr int kMaxGroup = kColumns == 1 ? 4 : 8 * kTiles;
  static constexpr int kRecordBytes = kDecodeRecords * static_cast<int>(sizeof(DecodeRecord));

  static constexpr int team_bytes(int group) {
    return kRecordBytes + Exchange::kSharedBytes +
           Queries::kSlots * (Queries::bytes(group) + Queries::kBarrierBytes);
  }
  static constexpr int places(int group, int teams) {
    return (kDecodeSharedBytes - teams * team_bytes(group)) /
           (Place::kBytes + Place::kBarrierBytes);
  }
  // Places that a team has at most: of a warp alone four pages, of more two rounds.
  static constexpr int kMaxDepth = kTeam == 1 ? 4 : 2;
  // Warp groups that compute, and one whose first warp loads and which leaves them its registers.
  static constexpr int kGroups = kTiles == 2 || kv_row_bytes(kElement, kWidth) == 256 ? 2 : 3;
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr int kLoaderRegisters = 56;
  static constexpr int kRegisters = (512 - kLoaderRegisters) / kGroups / 8 * 8;
  // As many teams as there are warps for, and shared memory allows.
  static constexpr int teams() {
    int most = 4 * kGroups / kTeam;
    constexpr int kLeast = Place::kWholePages ? 2 : 1;
    while (most > 1 && places(kMaxGroup, most) < kLeast * most) --most;
    return most;
  }
  static constexpr int kTeams = teams();
  static_assert(places(kMaxGroup, kTeams) >= kTeams);
};

// What the warps of a block derive from the arguments, the loading one and the others alike.
template <class Shape>
struct DecodeBlock {
  using Place = typename Shape::Place;
  using Queries = typename Shape::Queries;

  int blocks, total, teams, depth, stride, query_bytes;  // of a team
  std::uint8_t *queries, *places, *barriers, *query_barriers, *exchanges;

  __device__ __forceinline__ DecodeBlock(const DecodeKernelArguments& arguments,
                                         std::uint8_t* shared) {
    blocks = static_cast<int>(gridDim.x);
    total = *arguments.unit_count * arguments.kv_heads;
    // Few units are spread over all multiprocessors, and their teams share all of the places.
    teams = min(Shape::kTeams, (total + blocks - 1) / blocks);
    depth = min(arguments.places / max(teams, 1), Shape::kMaxDepth);
    stride = teams * blocks;
    query_bytes = Queries::kSlots * Queries::bytes(arguments.group);
    queries = shared + Shape::kTeams * Shape::kRecordBytes;
    places = queries + Shape::kTeams * query_bytes;
    barriers = places + arguments.places * Place::kBytes;
    query_barriers = barriers + arguments.places * Place::kBarrierBytes;
    exchanges = query_barriers + Shape::kTeams * Queries::kSlots * Queries::kBarrierBytes;
  }

  __device__ __forceinline__ std::uint8_t* places_of(int team) const {
    return places + team * depth * Place::kBytes;
  }
  __device__ __forceinline__ std::uint32_t barriers_of(int team) const {
    return ptx::shared_address(barriers + team * depth * Place::kBarrierBytes);
  }
  __device__ __forceinline__ std::uint8_t* queries_of(int team) const {
    return queries + team * query_bytes;
  }
  __device__ __forceinline__ std::uint32_t query_barriers_of(int team) const {
    return ptx::shared_address(query_barriers + team * Queries::kSlots * Queries::kBarrierBytes);
  }
  static __device__ __forceinline__ DecodeRecord* records_of(std::uint8_t* shared, int team) {
    return reinterpret_cast<DecodeRecord*>(shared) + team * kDecodeRecords;
  }
};

// The loading warp: each lane has the number of the warp that it loads for.
template <KvElement kElement, int kWidth, class Shape, int kTeam>
__device__ __forceinline__ void load_pages(const DecodeKernelArguments& arguments,
                                           std::uint8_t* shared) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int team = lane / kTeam, member = lane % kTeam;
  const int first = team * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  // Before the number of units is known: the list has room for max_units.
  AttentionUnit first_unit{};
  if (first < arguments.max_units * arguments.kv_heads) {
    first_unit = arguments.units[first / arguments.kv_heads];
  }
  const DecodeBlock<Shape> block(arguments, shared);
  ptx::named_barrier(kWholeBlock, Shape::kThreads);
  // Lanes without a warp to load for have nothing to do from the start.
  DecodeLoader<kElement, kWidth, kTeam> loader(
      arguments, first, first_unit, block.stride, team < block.teams ? block.total : 0, member,
      block.depth,
      {ptx::shared_address(block.places_of(team)), block.barriers_of(team),
       ptx::shared_address(block.queries_of(team)), block.query_barriers_of(team),
       ptx::shared_address(block.records_of(shared, team))});
  while (__any_sync(kWholeWarp, !loader.done() && loader.template load<true>())) {
  }
  ptx::wait_for_previous_kernel();
  loader.load_first_queries();
  while (__any_sync(kWholeWarp, !loader.done())) {
    // Who only polls takes the instruction slots of the warps beside it.
    if (!__any_sync(kWholeWarp, !loader.done() && loader.template load<false>())) __nanosleep(20);
  }
}

// One of the other warps.
template <KvElement kElement, int kWidth, int kTiles, int kColumns, class Shape, int kTeam>
__device__ __forceinline__ void compute(const DecodeKernelArguments& arguments,
                                        std::uint8_t* shared, int warp) {
  using Place = typename Shape::Place;
  using Slots = typename Shape::Queries;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int team = warp / kTeam, member = warp % kTeam;
  const DecodeBlock<Shape> block(arguments, shared);
  const std::uint32_t barriers = block.barriers_of(team);
  const std::uint32_t query_barriers = block.query_barriers_of(team);
  if (team < block.teams) {
    for (int i = member; i < block.depth * Place::kBarriers; i += kTeam) {
      ptx::mbarrier_init(barriers + static_cast<std::uint32_t>(8 * i), 1);
    }
    for (int i = member; i < Slots::kSlots; i += kTeam) {
      const std::uint32_t of_slot =
          query_barriers + static_cast<std::uint32_t>(i * Slots::kBarrierBytes);
      ptx::mbarrier_init(of_slot + Slots::kFull, 1);
      ptx::mbarrier_init(of_slot + Slots::kEmpty, kTeam);
    }
    ptx::mbarrier_init_fence();
  }
  ptx::named_barrier(kWholeBlock, Shape::kThreads);
  if (team >= block.teams || team * block.blocks + static_cast<int>(blockIdx.x) >= block.total) {
    return;
  }

  DecodeRows<kElement, kWidth, kTiles, kColumns, kTeam> rows(arguments, block.exchanges, team,
                                                             member, lane);
  const std::uint8_t* ring = block.places_of(team);
  const std::uint8_t* queries = block.queries_of(team);
  const DecodeRecord* records = block.records_of(shared, team);
  RingSlot place, query_slot;
  unsigned split_number = 0;
#pragma unroll 1
  while (true) {
    const std::uint32_t query_barrier =
        query_barriers + static_cast<std::uint32_t>(query_slot.slot * Slots::kBarrierBytes);
    ptx::mbarrier_wait(query_barrier + Slots::kFull, query_slot.parity);
    const DecodeRecord& record = records[split_number++ % kDecodeRecords];
    const int tokens = record.tokens;
    if (tokens == 0) return;
    rows.start(queries + query_slot.slot * Slots::bytes(arguments.group));
    __syncwarp();
    ptx::mbarrier_arrive(query_barrier + Slots::kEmpty, lane == 0);
    query_slot.advance(1, Slots::kSlots);
#pragma unroll 1
    for (int begin = 0; begin < tokens; begin += kTeam * kKvPageTokens) {
      const std::uint8_t* here = ring + place.slot * Place::kBytes;
      const std::uint32_t barrier =
          barriers + static_cast<std::uint32_t>(place.slot * Place::kBarrierBytes);
      const int left = tokens - begin;
      const int visible = max(min(left - member * kKvPageTokens, kKvPageTokens), 0);
      // Even where there is nothing to read: who would run ahead of the loads could let an empty
      // barrier go through two phases before the loading warp has seen the first.
      ptx::mbarrier_wait(barrier + Place::keys_full(member), place.parity);
      if (visible > 0) rows.score(here + Place::keys(member), visible);
      __syncwarp();
      if constexpr (!Place::kWholePages) {
        ptx::mbarrier_arrive(barrier + Place::keys_empty(member), lane == 0);
      }
      ptx::mbarrier_wait(barrier + Place::values_full(member), place.parity);
      rows.publish(here + Place::values(member), visible);
      rows.barrier();
      rows.weigh(visible);
      rows.barrier();
      const int pages = min((left + kKvPageTokens - 1) / kKvPageTokens, kTeam);
      rows.add_sums(pages);
#pragma unroll 1
      for (int j = 0; j < pages; ++j) {
        if (j != member) ptx::mbarrier_wait(barrier + Place::values_full(j), place.parity);
        rows.add(here + Place::values(j), j, min(left - j * kKvPageTokens, kKvPageTokens));
      }
      __syncwarp();
      rows.barrier();
      ptx::mbarrier_arrive(barrier + Place::values_empty(member), lane == 0);
      place.advance(1, block.depth);
    }
    rows.finish(record);
  }
}

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
__global__ __launch_bounds__(
    (DecodeShape<kElement, kWidth, kTiles, kColumns, kTeam>::kThreads),
    1) void decode_kernel(const __grid_constant__ DecodeKernelArguments arguments) {
  using Shape = DecodeShape<kElement, kWidth, kTiles, kColumns, kTeam>;
  extern __shared__ __align__(128) std::uint8_t shared[];
  const int warp = __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x / 32), 0);
  ptx::launch_dependents();
  if (warp >= 4 * Shape::kGroups) {
    ptx::decrease_registers<Shape::kLoaderRegisters>();
    if (warp == 4 * Shape::kGroups) {
      load_pages<kElement, kWidth, Shape, kTeam>(arguments, shared);
    } else {
      ptx::named_barrier(kWholeBlock, Shape::kThreads);
    }
  } else {
    ptx::increase_registers<Shape::kRegisters>();
    compute<kElement, kWidth, kTiles, kColumns, Shape, kTeam>(arguments, shared, warp);
  }
}

// ---- Launching ---------------------------------------------------------------------------------

struct DecodeLaunch {
  void (*kernel)(DecodeKernelArguments);
  int threads;
  int places;
  int teams;   // of a block
  bool keeps;  // takes sequences as one unit
};

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
Result<DecodeLaunch> decode_launch(int group) {
  using Shape = DecodeShape<kElement, kWidth, kTiles, kColumns, kTeam>;
  // Once; remembers a failure too.
  static const Status opted_in = cuda_status(
      cudaFuncSetAttribute(decode_kernel<kElement, kWidth, kTiles, kColumns, kTeam>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kDecodeSharedBytes),
      "cudaFuncSetAttribute(decode attention)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  DecodeLaunch launch;
  launch.kernel = decode_kernel<kElement, kWidth, kTiles, kColumns, kTeam>;
  launch.threads = Shape::kThreads;
  launch.places = Shape::places(group, Shape::kTeams);
  launch.teams = Shape::kTeams;
  launch.keeps = decode_keeps(kTiles, kColumns, kTeam);
  return launch;
}

template <KvElement kElement, int kWidth, int kTeam>
Result<DecodeLaunch> decode_launch(int group) {
  if (group <= 4) return decode_launch<kElement, kWidth, 1, 1, kTeam>(group);
  if (group <= 8) return decode_launch<kElement, kWidth, 1, 2, kTeam>(group);
  return decode_launch<kElement, kWidth, 2, 2, kTeam>(group);
}

template <KvElement kElement>
Result<DecodeLaunch> decode_launch(int width, int group, int team) {
  if (width == 64) return decode_launch<kElement, 64, 2>(group);
  if constexpr (!kv_is_float(kElement)) {
    if (team == 4) return decode_launch<kElement, 128, 4>(group);
  }
  if (team == 1 && group <= 4) return decode_launch<kElement, 128, 1, 1, 1>(group);
  if constexpr (kElement == KvElement::kInt4) {
    if (team == 1 && group <= 8) return decode_launch<kElement, 128, 1, 2, 1>(group);
  }
  return decode_launch<kElement, 128, 2>(group);
}

// Each in a source of its own. A team that there is not for this shape becomes one that there is.
Result<DecodeLaunch> decode_launch_f16(int width, int group, int team);
Result<DecodeLaunch> decode_launch_bf16(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int8(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int8_static(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int4(int width, int group, int team);

}  // namespace liquidgemm::cuda
