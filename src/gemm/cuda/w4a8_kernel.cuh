// The kernel: the pipeline, the sharing of one tile among blocks, and the epilogue put together.
//
// A tile's sums may lie with several contributors, because INT32 sums can be cut anywhere:
//
//   depth groups of a block, blocks of a cluster   exchange through shared memory: contributor c
//                                                  finishes the units [c U / C, (c + 1) U / C)
//   stream-K (SegmentIterator)                     partials in global memory, one finisher
#pragma once

#include "gemm/cuda/w4a8_epilogue.cuh"
#include "gemm/cuda/w4a8_pipeline.cuh"

namespace liquidgemm::cuda {

// Units that contributor `index` of `count` finishes: [first, last).
struct UnitRange {
  int first, last;
  __device__ UnitRange(int index, int count, int units)
      : first((index * units + count - 1) / count),
        last(((index + 1) * units + count - 1) / count) {}
};

// Bytes that the contributors of one row group send to this block.
template <class Config>
__device__ __forceinline__ std::uint32_t exchange_bytes(int split, int split_rank) {
  const UnitRange mine(split_rank, split, Config::kUnits);
  return (mine.last - mine.first) * (split * Config::kDepthGroups - 1) * Config::kUnitBytes;
}

// Every contributor sends each unit to its owner, into the shared memory of the owner's block, and
// adds up the units it owns. The ring is empty: its memory is free.
template <class Config>
__device__ __forceinline__ UnitRange exchange_sums(Consumer<Config>& consumer, int split,
                                                   int split_rank) {
  constexpr int kUnits = Config::kUnits;
  const int contributors = split * Config::kDepthGroups;
  const int me = split_rank * Config::kDepthGroups + consumer.depth_group;
  const UnitRange mine(me, contributors, kUnits);
  const int most = (kUnits + split - 1) / split;  // units that a block owns for one row group
  const auto place = [&](int local_unit, int contributor) {
    const int index = (consumer.row_group * most + local_unit) * contributors + contributor;
    return consumer.shared.exchange + index * Config::kUnitBytes + consumer.thread * 16;
  };
  // Nobody reads the ring any more. (st.async is for clusters: a block alone stores as usual.)
  if (split > 1) {
    ptx::cluster_barrier();
  } else {
    ptx::named_barrier(1, Config::kConsumers);
  }
  const std::uint32_t exchanged = consumer.shared.exchanged + consumer.row_group * 8;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (u >= mine.first && u < mine.last) continue;
    const int r = u / Config::kTokenUnits, j = u % Config::kTokenUnits;
    const int(&row)[Config::kTokens / 2] = consumer.sums[r];
    const int values[4] = {row[4 * j], row[4 * j + 1], row[4 * j + 2], row[4 * j + 3]};
    const int owner_block = u * split / kUnits;
    const int local = u - UnitRange(owner_block, split, kUnits).first;
    if (split == 1) {
      ptx::store_shared(place(local, me), values);
      continue;
    }
    ptx::store_async(ptx::remote_address(place(local, me), owner_block), values,
                     ptx::remote_address(exchanged, owner_block));
  }
  if (split == 1) {
    ptx::named_barrier(1, Config::kConsumers);
  } else {
    ptx::mbarrier_wait(exchanged, 0);
  }
  const int block_first = UnitRange(split_rank, split, kUnits).first;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (u < mine.first || u >= mine.last) continue;
    const int r = u / Config::kTokenUnits, j = u % Config::kTokenUnits;
    for (int c = 0; c < contributors; ++c) {
      if (c == me) continue;
      int values[4];
      ptx::load_shared(place(u - block_first, c), values);
#pragma unroll
      for (int i = 0; i < 4; ++i) consumer.sums[r][4 * j + i] += values[i];
    }
  }
  return mine;
}

// Where worker `worker` leaves the sums of this warp group.
template <class Config>
struct Partial {
  int4* sums;
  unsigned* flag;
  __device__ Partial(const W4A8Parameters& p, const Consumer<Config>& consumer, int worker,
                     int row_rank) {
    const std::int64_t group =
        (std::int64_t{worker} * p.multicast + row_rank) * Config::kRowGroups + consumer.row_group;
    sums = p.partials + group * Config::kUnits * 128 + consumer.thread;
    flag = p.flags + group;
  }
};

template <class Config>
__device__ __forceinline__ void leave_partial(const Consumer<Config>& consumer,
                                              const Partial<Config>& partial) {
#pragma unroll
  for (int u = 0; u < Config::kUnits; ++u) {
    const int* sums = &consumer.sums[u / Config::kTokenUnits][u % Config::kTokenUnits * 4];
    __stcg(partial.sums + u * 128, make_int4(sums[0], sums[1], sums[2], sums[3]));
  }
  __threadfence();
  ptx::named_barrier(1 + consumer.row_group, 128);
  if (consumer.thread == 0) ptx::store_release(partial.flag, 1);
}

template <class Config>
__device__ __forceinline__ void add_partial(Consumer<Config>& consumer,
                                            const Partial<Config>& partial) {
  if (consumer.thread == 0) {
    while (ptx::load_acquire(partial.flag) == 0) {
    }
  }
  ptx::named_barrier(1 + consumer.row_group, 128);
#pragma unroll
  for (int u = 0; u < Config::kUnits; ++u) {
    int* sums = &consumer.sums[u / Config::kTokenUnits][u % Config::kTokenUnits * 4];
    const int4 value = __ldcg(partial.sums + u * 128);
    sums[0] += value.x;
    sums[1] += value.y;
    sums[2] += value.z;
    sums[3] += value.w;
  }
  // As the next launch expects to find it. Nobody else reads it in this one.
  if (consumer.thread == 0) *partial.flag = 0;
}

// Brings what the epilogue will read of a tile into the L1 while the main loop runs.
template <class Config>
__device__ __forceinline__ void touch_scales(const W4A8Parameters& p, const OutputOrigin& origin) {
  const int row = origin.row_block * kBlockRows + origin.thread;
  if (origin.thread < Config::kRowBlocks * kBlockRows && row < p.row_blocks * kBlockRows) {
    ptx::touch(p.channel_scale + row);
  }
#pragma unroll
  for (int i = 0; i < Config::kTokens; i += 128) {
    const int token = origin.token + i + origin.thread;
    if (i + origin.thread < Config::kTokens && token < p.m) {
      ptx::touch(p.x_scale + token);
      ptx::touch(p.x_sum + token);
    }
  }
}

template <class Config>
__device__ __forceinline__ void consume(const W4A8Parameters& p, const SharedMemory<Config>& shared,
                                        int worker, int split_rank, int row_rank) {
  Consumer<Config> consumer(p, shared, split_rank * p.multicast + row_rank);
  SegmentIterator segments(p, worker);
  Segment segment;
  // Activations, scales, sums and Y belong to the kernels before until they have ended.
  ptx::wait_for_previous_kernel();
  while (segments.next(segment)) {
    const TileOrigin tile = tile_origin<Config>(p, segment.tile, row_rank);
    const OutputOrigin origin{tile.row_block + consumer.row_group * Config::kRowBlocks, tile.token,
                              consumer.thread};
    touch_scales<Config>(p, origin);
    const Segment part = split_segment(segment, p.split, split_rank);
    consumer.accumulate(part.begin, part.end);
    UnitRange units(0, 1, Config::kUnits);
    if (Config::kDepthGroups > 1 || p.split > 1) {
      units = exchange_sums(consumer, p.split, split_rank);
    } else if (segment.begin > 0) {
      leave_partial(consumer, Partial<Config>(p, consumer, worker, row_rank));
      continue;
    } else if (segment.end < p.column_blocks) {
      // The workers after this one have the rest of the tile.
      const int tile_end = (segment.tile + 1) * p.column_blocks;
      for (int other = worker + 1;; ++other) {
        add_partial(consumer, Partial<Config>(p, consumer, other, row_rank));
        if (SegmentIterator::stream_begin(p, other + 1) >= tile_end) break;
      }
    }
    write_units<Config::kRowBlocks, Config::kTokens>(p, origin, consumer.sums, units.first,
                                                     units.last);
  }
}

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, 1)
    w4a8_kernel(const __grid_constant__ W4A8Parameters p) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const SharedMemory<Config> shared(ptx::shared_address(memory), p.stages);
  const int cluster = p.split * p.multicast;
  const int rank = cluster > 1 ? ptx::cluster_rank() : 0;
  const int split_rank = rank / p.multicast, row_rank = rank % p.multicast;
  // A finisher waits for workers of higher numbers: they get the blocks that start first.
  const int worker = p.workers - 1 - static_cast<int>(blockIdx.x) / cluster;

  if (threadIdx.x < p.stages) {
    ptx::mbarrier_init(shared.full + threadIdx.x * 8, 1);
    ptx::mbarrier_init(shared.empty + threadIdx.x * 8, Config::kRowGroups * 4 * p.multicast);
    ptx::mbarrier_init_fence();
  } else if (threadIdx.x / 32 == 1) {
    for (int group = 0; group < Config::kRowGroups; ++group) {
      ptx::mbarrier_init(shared.exchanged + group * 8, 1);
    }
    ptx::mbarrier_init_fence();
    for (int group = 0; group < Config::kRowGroups; ++group) {
      const std::uint32_t bytes = exchange_bytes<Config>(p.split, split_rank);
      ptx::mbarrier_expect_bytes(shared.exchanged + group * 8, bytes);
    }
  }
  if (p.multicast > 1) {
    ptx::cluster_barrier();
  } else {
    __syncthreads();
  }
  ptx::launch_dependents();

  if (threadIdx.x >= Config::kConsumers) {
    if constexpr (Config::kRedistribute) ptx::decrease_registers<Config::kLoaderRegisters>();
    // The warp's number through a shuffle, so that the compiler knows it is uniform.
    const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0);
    if (warp == Config::kConsumers / 32) {
      const Producer<Config> producer{p, shared, row_rank};
      producer.run(worker, split_rank);
    }
  } else {
    if constexpr (Config::kRedistribute) ptx::increase_registers<Config::kConsumerRegisters>();
    consume<Config>(p, shared, worker, split_rank, row_rank);
  }
  // A block must not go while others may still arrive at its barriers.
  if (p.multicast > 1) {
    __syncwarp();
    ptx::cluster_barrier();
  }
}

}  // namespace liquidgemm::cuda
