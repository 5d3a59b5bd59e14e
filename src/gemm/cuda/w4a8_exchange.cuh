// Sharing a tile among the `depth` groups of `split` blocks, in two steps, because shared memory is
// several times as fast within a block as across:
//
//   within the block    depth group d adds up the d-th share of the tile's units, kShare of them
//                       [row group][depth group that adds][unit of its share][the others]
//   across the cluster  of these, the l-th is finished by block l % split
//                       [row group][depth group][l / split][block that sends]
//
// Units of 2,048 bytes (w4a8_epilogue.cuh). The first array lies in the ring, which the main loop
// has left; so do the staged outputs of a tile that is not split.
#pragma once

#include "gemm/cuda/w4a8_pipeline.cuh"

namespace liquidgemm::cuda {

// A unit's sums in registers.
template <class Config>
__device__ __forceinline__ void get_unit(const Consumer<Config>& consumer, int unit,
                                         int (&values)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[i] = consumer.sums[unit / Config::kTokenUnits][unit % Config::kTokenUnits * 4 + i];
  }
}

template <class Config>
struct Exchange {
  static constexpr int kDepth = Config::kDepthGroups;
  static constexpr int kOthers = kDepth - 1;
  static constexpr int kShare = Config::kSizes.share_units();
  // Units are finished so many at a time: one waits for its loads while others are computed.
  static constexpr int kAtOnce = Config::kSizes.exchange_units();
  static_assert(kShare % kAtOnce == 0);

  const W4A8Parameters& p;
  const Consumer<Config>& consumer;
  int rank;
  int thread;  // opaque, or addresses are derived before the main loop and spill
  std::uint32_t across, arrived;

  __device__ __forceinline__ Exchange(const W4A8Parameters& parameters,
                                      const Consumer<Config>& source, int block)
      : p(parameters), consumer(source), rank(block), thread(ptx::opaque(source.thread)) {
    const int share = consumer.row_group * kDepth + consumer.depth_group;
    across = consumer.shared.x + p.exchange_offset +
             share * p.exchange_most * p.split * kUnitBytes + thread * 16;
    arrived = consumer.shared.exchanged + consumer.row_group * 8;
  }

  // Before the main loop: blocks that send to this one count on the barrier.
  __device__ __forceinline__ void expect() const {
    if (consumer.depth_group == 0 && consumer.warp % 4 == 0) {
      ptx::mbarrier_init(arrived, 1);
      ptx::mbarrier_init_fence();
      __syncwarp();
      ptx::mbarrier_expect_bytes(arrived, p.exchange_bytes[rank]);
    }
    if (p.exchange_apart) ptx::cluster_arrive();
  }

  // Where the sums of unit l of the share of depth group `adder` begin, for this thread.
  __device__ __forceinline__ std::uint32_t within(int adder, int l) const {
    const int index = ((consumer.row_group * kDepth + adder) * kShare + l) * kOthers;
    return consumer.shared.x + index * kUnitBytes + thread * 16;
  }

  // This depth group's share, complete for the block.
  __device__ __forceinline__ void add_within(int (&sums)[kShare][4]) const {
    const int d = consumer.depth_group;
    ptx::named_barrier(kRingLeftBarrier, Config::kConsumers);
#pragma unroll
    for (int adder = 0; adder < kDepth; ++adder) {
      if (adder == d) continue;
      const std::uint32_t place = within(adder, 0) + (d < adder ? d : d - 1) * kUnitBytes;
#pragma unroll
      for (int l = 0; l < kShare && adder * kShare + l < Config::kUnits; ++l) {
        int values[4];
        get_unit(consumer, adder * kShare + l, values);
        ptx::store_shared(place + l * kOthers * kUnitBytes, values);
      }
    }
#pragma unroll
    for (int adder = 0; adder < kDepth; ++adder) {
      if (adder != d) continue;
#pragma unroll
      for (int l = 0; l < kShare && adder * kShare + l < Config::kUnits; ++l) {
        get_unit(consumer, adder * kShare + l, sums[l]);
      }
    }
    ptx::named_barrier(kRingLeftBarrier, Config::kConsumers);
    const std::uint32_t place = within(d, 0);
#pragma unroll
    for (int l = 0; l < kShare; ++l) {
#pragma unroll
      for (int i = 0; i < kOthers; ++i) {
        add(place + (l * kOthers + i) * kUnitBytes, sums[l]);
      }
    }
  }
  static __device__ __forceinline__ void add(std::uint32_t address, int (&sums)[4]) {
    int part[4];
    ptx::load_shared(address, part);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += part[i];
  }

  // Every unit of the share to the block that finishes it. A block's own stays with the thread that
  // will read it.
  __device__ __forceinline__ void send(const int (&sums)[kShare][4], int units) const {
    // The others have started, or, where the second array lies in their rings, left those.
    if (!p.exchange_apart) ptx::cluster_arrive();
    ptx::cluster_wait();
    int block = 0;
    std::uint32_t place = across + rank * kUnitBytes;
#pragma unroll
    for (int l = 0; l < kShare; ++l) {
      if (l >= units) break;
      if (block == rank) {
        ptx::store_shared(place, sums[l]);
      } else {
        ptx::store_async(ptx::remote_address(place, block), sums[l],
                         ptx::remote_address(arrived, block));
      }
      if (++block == p.split) {
        block = 0;
        place += p.split * kUnitBytes;
      }
    }
  }

  // This depth group's share of the tile, as far as this block has summed it up.
  __device__ __forceinline__ void gather(int (&sums)[kShare][4]) const {
    if constexpr (kDepth > 1) {
      add_within(sums);
    } else {
#pragma unroll
      for (int l = 0; l < kShare; ++l) get_unit(consumer, l, sums[l]);
    }
  }
  // Where this warp group stages its outputs: room for all that it finishes. Depth groups have it
  // in the ring, behind what is exchanged there.
  __device__ __forceinline__ std::uint32_t staging() const {
    if constexpr (kDepth == 1) {
      return consumer.shared.staging + consumer.row_group * kOutputBuffers * Config::kOutputBytes;
    } else {
      const int share = consumer.row_group * kDepth + consumer.depth_group;
      return consumer.shared.x + p.staging_offset + share * kShare * kUnitOutputBytes;
    }
  }

  // Calls finish(unit, stride, end, sums) for every unit that this warp group finishes, several at
  // a time: `unit`, unit + stride, ..., of which those from `end` on do not exist.
  template <class Finish>
  __device__ __forceinline__ void finish(const int (&sums)[kShare][4],
                                         const Finish& finish_units) const {
    const int first = consumer.depth_group * kShare;
    const int units = min(kShare, Config::kUnits - first);
    if (kDepth > 1 && p.split == 1) {
#pragma unroll
      for (int l = 0; l < kShare; l += kAtOnce) {
        if (l >= units) break;
        int several[kAtOnce][4];
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
#pragma unroll
          for (int i = 0; i < 4; ++i) several[u][i] = sums[l + u][i];
        }
        finish_units(first + l, 1, first + units, several);
      }
      return;
    }
    send(sums, units);
    ptx::mbarrier_wait(arrived, 0);
    std::uint32_t place = across;
    for (int l = rank; l < units; l += kAtOnce * p.split) {
      int several[kAtOnce][4] = {};
#pragma unroll 1
      for (int from = 0; from < p.split; ++from) {
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
          if (l + u * p.split < units) add(place + u * p.split * kUnitBytes, several[u]);
        }
        place += kUnitBytes;
      }
      place += (kAtOnce - 1) * p.split * kUnitBytes;
      finish_units(first + l, p.split, first + units, several);
    }
  }
};

}  // namespace liquidgemm::cuda
