// Decode attention: one row for each sequence.
//
// A team of kTeam warps computes one unit after the other: one split of one sequence and one KV
// head, whose query heads are the rows. A round is kTeam pages of the unit, one for each warp
// (decode_rows.cuh); with fewer units on the GPU a larger team has its result sooner. Teams share
// nothing but the block's shared memory, cut into places of one round each, which are dealt out to
// the teams that have work:
//
//   places | barriers of each place | exchange of each team | records of each warp
//
// A team's places are a ring (decode_loader.cuh). As soon as a K half has been read its place takes
// in the K half of the round `depth` rounds on, of the team's next unit if need be, and so for V:
// loads wait neither for arithmetic nor for the end of a unit. What tells where to load from is
// itself read one and two units ahead.
//
// A sequence of one split is finished by its team. Otherwise each split leaves (m, l, o) in the
// workspace, and the team that comes last combines them, in ascending order.
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
inline constexpr int kMaxDecodeDepth = 4;          // pages that a warp loads ahead

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
struct DecodeShape {
  using Place = DecodePlace<kElement, kWidth, kTeam>;
  using Exchange = DecodeExchange<kElement, kTiles, kColumns, kTeam>;

  static constexpr int kMaxGroup = kColumns == 1 ? 4 : 8 * kTiles;
  static constexpr int kTeamBytes =
      static_cast<int>(sizeof(Exchange) + kTeam * kDecodeRecords * sizeof(DecodeRecord));

  static constexpr int places(int group, int teams) {
    return (kDecodeSharedBytes - teams * kTeamBytes) / (Place::bytes(group) + Place::kBarrierBytes);
  }
  // As many teams as registers and shared memory allow.
  static constexpr int kWarpsByRegisters = kTiles == 2 ? 8 : kTeam == 4 && kColumns == 1 ? 16 : 12;
  static constexpr int teams() {
    int most = kWarpsByRegisters / kTeam;
    while (most > 1 && places(kMaxGroup, most) < most) --most;
    return most;
  }
  static constexpr int kTeams = teams();
  static_assert(places(kMaxGroup, kTeams) >= 1);
};

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
__global__ __launch_bounds__(
    (DecodeShape<kElement, kWidth, kTiles, kColumns, kTeam>::kTeams * kTeam * 32),
    1) void decode_kernel(const __grid_constant__ DecodeKernelArguments arguments) {
  using Shape = DecodeShape<kElement, kWidth, kTiles, kColumns, kTeam>;
  using Place = typename Shape::Place;
  using Exchange = typename Shape::Exchange;
  extern __shared__ __align__(128) std::uint8_t shared[];
  const int warp = __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x / 32), 0);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int team = warp / kTeam;
  const int member = warp % kTeam;
  const int blocks = static_cast<int>(gridDim.x);
  const int first = team * blocks + static_cast<int>(blockIdx.x);

  ptx::wait_for_previous_kernel();
  ptx::launch_dependents();
  // Both reads at once: the list has room for max_units, though not all need be there.
  AttentionUnit first_unit{0, 0};
  if (first < arguments.max_units * arguments.kv_heads) {
    first_unit = arguments.units[first / arguments.kv_heads];
  }
  const int total = *arguments.unit_count * arguments.kv_heads;
  // Few units are spread over all multiprocessors, and their teams share all of the places.
  const int teams = min(Shape::kTeams, (total + blocks - 1) / blocks);
  if (team >= teams) return;
  const int depth = min(arguments.places / teams, max(kMaxDecodeDepth / kTeam, 2));
  const int stride = teams * blocks;

  const int place_size = Place::bytes(arguments.group);
  const std::uint8_t* ring = shared + team * depth * place_size;
  std::uint8_t* behind_places = shared + arguments.places * place_size;
  std::uint8_t* exchanges = behind_places + arguments.places * Place::kBarrierBytes;
  Exchange& exchange = reinterpret_cast<Exchange*>(exchanges)[team];
  DecodeRecord* records =
      reinterpret_cast<DecodeRecord*>(exchanges + Shape::kTeams * sizeof(Exchange)) +
      warp * kDecodeRecords;
  const std::uint32_t barriers = ptx::shared_address(behind_places) +
                                 static_cast<std::uint32_t>(team * depth * Place::kBarrierBytes);

  DecodeRows<kElement, kWidth, kTiles, kColumns, kTeam> rows(arguments, exchange, team, member,
                                                             lane);
  if (member == 0) {
    for (int i = 0; i < depth * Place::kBarrierBytes; i += 8) {
      ptx::mbarrier_init(barriers + static_cast<std::uint32_t>(i), 1);
    }
    ptx::mbarrier_init_fence();
  }
  rows.barrier();
  DecodeLoader<kElement, kWidth, kTeam> loader(
      arguments, first, first_unit, stride, total, member, lane,
      ptx::shared_address(shared) + static_cast<std::uint32_t>(team * depth * place_size), barriers,
      depth, records);
  for (int i = 0; i < depth; ++i) {
    loader.load_keys();
    loader.load_queries();
    loader.load_values();
  }
  __syncwarp();

  int place = 0;
  std::uint32_t parity = 0;
  unsigned unit_number = 0;
#pragma unroll 1
  for (int unit = first; unit < total; unit += stride, ++unit_number) {
    const DecodeRecord& record = records[unit_number % kDecodeRecords];
    const int tokens =
        min(record.length - record.split * numerics::kAttentionSplit, numerics::kAttentionSplit);
#pragma unroll 1
    for (int begin = 0; begin < tokens; begin += kTeam * kKvPageTokens) {
      const std::uint8_t* here = ring + place * place_size;
      const std::uint32_t barrier =
          barriers + static_cast<std::uint32_t>(place * Place::kBarrierBytes);
      const int left = tokens - begin;
      const int visible = max(min(left - member * kKvPageTokens, kKvPageTokens), 0);
      if (begin == 0) {
        ptx::mbarrier_wait(barrier + Place::kQueriesBarrier, parity);
        rows.start(here + Place::kQueries);
      }
      if (visible > 0) {
        ptx::mbarrier_wait(barrier + Place::keys_barrier(member), parity);
        rows.score(here + Place::keys(member), visible);
        __syncwarp();
      }
      loader.load_keys();
      if (visible > 0) ptx::mbarrier_wait(barrier + Place::values_barrier(member), parity);
      rows.publish(here + Place::values(member), visible);
      rows.barrier();
      loader.load_queries();
      rows.weigh(visible);
      rows.barrier();
      const int pages = min((left + kKvPageTokens - 1) / kKvPageTokens, kTeam);
      rows.add_sums(pages);
#pragma unroll 1
      for (int j = 0; j < pages; ++j) {
        ptx::mbarrier_wait(barrier + Place::values_barrier(j), parity);
        rows.add(here + Place::values(j), j, min(left - j * kKvPageTokens, kKvPageTokens));
      }
      rows.barrier();
      loader.load_values();
      if (++place == depth) {
        place = 0;
        parity ^= 1;
      }
    }
    rows.finish(record);
  }
}

// ---- Launching ---------------------------------------------------------------------------------

struct DecodeLaunch {
  void (*kernel)(DecodeKernelArguments);
  int threads;
  int places;
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
  launch.threads = Shape::kTeams * kTeam * 32;
  launch.places = Shape::places(group, Shape::kTeams);
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
  return decode_launch<kElement, 128, 2>(group);
}

// Each in a source of its own. A team that there is not for this shape becomes one that there is.
Result<DecodeLaunch> decode_launch_f16(int width, int group, int team);
Result<DecodeLaunch> decode_launch_bf16(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int8(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int8_static(int width, int group, int team);
Result<DecodeLaunch> decode_launch_int4(int width, int group, int team);

}  // namespace liquidgemm::cuda
