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

// A unit's sums in registers.
template <class Config>
__device__ __forceinline__ void get_unit(const Consumer<Config>& consumer, int unit,
                                         int (&values)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[i] = consumer.sums[unit / Config::kTokenUnits][unit % Config::kTokenUnits * 4 + i];
  }
}

// Sharing a tile among the `depth` groups of `split` blocks. Contributor c = depth group * split +
// block finishes the units c, c + C, c + 2C, ... of its row group, C contributors in all. In the
// shared memory of the block that finishes them lie, 2,048 bytes each,
//
//   [row group][depth group of the finisher][its units in order][contributor]
template <class Config>
struct Exchange {
  const W4A8Parameters& p;
  int contributors, me;
  std::uint32_t base, arrived;

  __device__ __forceinline__ Exchange(const W4A8Parameters& parameters,
                                      const Consumer<Config>& consumer, int rank)
      : p(parameters),
        contributors(p.split * Config::kDepthGroups),
        me(consumer.depth_group * p.split + rank) {
    const int first = consumer.row_group * Config::kDepthGroups * p.exchange_most * contributors;
    base =
        consumer.shared.x + p.exchange_offset + first * Config::kUnitBytes + consumer.thread * 16;
    arrived = consumer.shared.exchanged + consumer.row_group * 8;
  }

  // Before the main loop: blocks that send to this one count on the barrier.
  __device__ __forceinline__ void expect(const Consumer<Config>& consumer, int rank) const {
    if (consumer.depth_group == 0 && consumer.thread < 32) {
      ptx::mbarrier_init(arrived, 1);
      ptx::mbarrier_init_fence();
      __syncwarp();
      ptx::mbarrier_expect_bytes(arrived, p.exchange_bytes[rank]);
    }
    if (p.exchange_apart) ptx::cluster_arrive();
  }

  // Every unit to its finisher, one's own too.
  __device__ __forceinline__ void send(const Consumer<Config>& consumer) const {
    // Nobody reads the ring any more, or the exchange lies elsewhere and the others have started.
    // (st.async is for clusters: a block alone stores as usual.)
    if (p.split > 1) {
      if (!p.exchange_apart) ptx::cluster_arrive();
      ptx::cluster_wait();
    } else if (!p.exchange_apart) {
      ptx::named_barrier(1, Config::kConsumers);
    }
    const std::uint32_t stride = contributors * Config::kUnitBytes;
    int block = 0;                                         // of the finisher
    std::uint32_t group = base + me * Config::kUnitBytes;  // of its depth group, this round
    std::uint32_t round = group;
    int index = 0;
#pragma unroll
    for (int u = 0; u < Config::kUnits; ++u) {
      int values[4];
      get_unit(consumer, u, values);
      if (p.split == 1) {
        ptx::store_shared(group, values);
      } else {
        ptx::store_async(ptx::remote_address(group, block), values,
                         ptx::remote_address(arrived, block));
      }
      // The next contributor: the next block, then the next depth group, then the next round.
      if (++block == p.split) {
        block = 0;
        group += p.exchange_most * stride;
        if (++index == Config::kDepthGroups) {
          index = 0;
          round += stride;
          group = round;
        }
      }
    }
    if (p.split > 1) {
      ptx::mbarrier_wait(arrived, 0);
    } else {
      ptx::named_barrier(1, Config::kConsumers);
    }
  }

  // The sums of this contributor's unit number `index`, of all contributors together.
  __device__ __forceinline__ void collect(const Consumer<Config>& consumer, int index,
                                          int (&values)[4]) const {
    std::uint32_t address =
        base + (consumer.depth_group * p.exchange_most + index) * contributors * Config::kUnitBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = 0;
    for (int c = 0; c < contributors; ++c) {
      int part[4];
      ptx::load_shared(address, part);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] += part[i];
      address += Config::kUnitBytes;
    }
  }
};

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
  consumer.group_barrier();
  if (consumer.thread == 0) ptx::store_release(partial.flag, 1);
}

template <class Config>
__device__ __forceinline__ void add_partial(Consumer<Config>& consumer,
                                            const Partial<Config>& partial) {
  if constexpr (Config::kPartialUnits > 0) {
    consumer.add_fetched_partial();
  } else {
    if (consumer.thread == 0) {
      while (ptx::load_acquire(partial.flag) == 0) {
      }
    }
    consumer.group_barrier();
#pragma unroll
    for (int u = 0; u < Config::kUnits; ++u) {
      int* sums = &consumer.sums[u / Config::kTokenUnits][u % Config::kTokenUnits * 4];
      const int4 value = __ldcg(partial.sums + u * 128);
      sums[0] += value.x;
      sums[1] += value.y;
      sums[2] += value.z;
      sums[3] += value.w;
    }
  }
  // As the next launch expects to find it. Nobody else reads it in this one.
  if (consumer.thread == 0) *partial.flag = 0;
}

// Writes all units of a warp group, a chunk of them at a time: staged in shared memory, then one
// box for the copy engine, which runs on while the next chunk is made in the other buffer. A loop
// with little code, because a block runs it only a few times: unrolled over a whole tile it would
// be fetching instructions most of the time.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile(const W4A8Parameters& p, const OutputOrigin& origin,
                                           const Scales& scales, const Consumer<Config>& consumer,
                                           int& buffer) {
  constexpr int kChunk = Config::kChunk, kChunks = Config::kUnits / kChunk;
  static_assert(Config::kTokenUnits % kChunk == 0);
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4, t = lane % 4;
#pragma unroll 1
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int row_block = chunk * kChunk / Config::kTokenUnits;
    const int token = chunk * kChunk % Config::kTokenUnits * 8;
    if (origin.row_block + row_block >= p.row_blocks || origin.token + token >= p.m) continue;
    int sums[kChunk][4];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      if (chunk != i) continue;
#pragma unroll
      for (int u = 0; u < kChunk; ++u) get_unit(consumer, i * kChunk + u, sums[u]);
    }
    const int row = row_block * kBlockRows + warp * 16 + g;
    if (p.output == OutputType::kInt32) {
#pragma unroll
      for (int u = 0; u < kChunk; ++u) {
        correct_sums(scales, token + u * 8 + 2 * t, sums[u]);
        write_sums(p, std::int64_t{origin.row_block} * kBlockRows + row,
                   origin.token + token + u * 8 + 2 * t, sums[u]);
      }
      continue;
    }
    const RowScales rows(p, scales, row);
    const std::uint32_t staged =
        consumer.shared.staging + (consumer.row_group * 2 + buffer) * Config::kOutputBytes;
#pragma unroll
    for (int u = 0; u < kChunk; ++u) {
      const int pair = token + u * 8 + 2 * t;
      correct_sums(scales, pair, sums[u]);
      const UnitOutputs outputs = unit_outputs(p, scales, rows, pair, sums[u]);
      const std::uint32_t address = staged_row(staged, p.gated, warp, lane, u);
      if (p.gated) {
        ptx::store_transposed(address, outputs.low);
      } else {
        ptx::store_transposed(address, outputs.low, outputs.high);
      }
    }
    ptx::fence_shared_for_bulk_copies();
    // The box before this one has been read: its buffer is the next chunk's.
    if (origin.thread == 0) ptx::wait_for_stores_read();
    consumer.group_barrier();
    if (origin.thread == 0) {
      const int channel = (origin.row_block + row_block) * (p.gated ? 32 : 64);
      ptx::store_tensor(&p.y_map, channel, origin.token + token, staged);
    }
    buffer ^= 1;
  }
}

template <class Config>
__device__ __forceinline__ void consume(const W4A8Parameters& p, const SharedMemory<Config>& shared,
                                        int worker, int split_rank, int row_rank) {
  Consumer<Config> consumer(p, shared, split_rank + row_rank);
  const bool exchanges = Config::kDepthGroups > 1 || p.split > 1;
  if (p.split > 1) Exchange<Config>(p, consumer, split_rank).expect(consumer, split_rank);
  const TileScales<Config::kTokens, Config::kRowBlocks> scales{consumer.scales()};
  SegmentIterator segments(p, worker);
  Segment segment;
  bool first = true;
  int buffer = 0;  // of the epilogue's two
  // Activations, scales, sums and Y belong to the kernels before until they have ended.
  ptx::wait_for_previous_kernel();
  while (segments.next(segment)) {
    const TileOrigin tile = tile_origin<Config>(p, segment.tile, row_rank);
    const OutputOrigin origin{tile.row_block + consumer.row_group * Config::kRowBlocks, tile.token,
                              consumer.thread};
    if (!first) consumer.group_barrier();  // the last tile's scales are no longer read
    first = false;
    scales.fetch(p, origin);
    const Segment part = split_segment(p, segment, split_rank);
    consumer.accumulate(part.begin, part.end);
    ptx::wait_for_words();
    consumer.group_barrier();
    if (exchanges) {
      const Exchange<Config> exchange(p, consumer, split_rank);
      exchange.send(consumer);
      int index = 0;
      for (int u = exchange.me; u < Config::kUnits; u += exchange.contributors) {
        int sums[4];
        exchange.collect(consumer, index++, sums);
        write_unit(p, origin, scales, u / Config::kTokenUnits, u % Config::kTokenUnits * 8, sums);
      }
      continue;
    }
    if constexpr (Config::kDepthGroups == 1) {
      if (segment.begin > 0) {
        leave_partial(consumer, Partial<Config>(p, consumer, worker, row_rank));
        continue;
      }
      ContributorIterator others(p, worker, segment);
      int other;
      while (others.next(other)) {
        add_partial(consumer, Partial<Config>(p, consumer, other, row_rank));
      }
      write_tile(p, origin, scales, consumer, buffer);
    }
  }
  // The block's shared memory must not go before its outputs have been read.
  if (consumer.thread == 0) ptx::wait_for_stores_read();
}

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, 1)
    w4a8_kernel(const __grid_constant__ W4A8Parameters p) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const SharedMemory<Config> shared(ptx::shared_address(memory), p.stages);
  // A cluster shares either a tile along K or the tokens of neighbouring row tiles.
  const bool clustered = p.split > 1 || p.multicast > 1;
  const int rank = clustered ? ptx::cluster_rank() : 0;
  const int split_rank = p.split > 1 ? rank : 0, row_rank = p.multicast > 1 ? rank : 0;
  // A finisher waits for workers of higher numbers: they get the blocks that start first.
  const int worker = p.workers - 1 - (clustered ? ptx::cluster_index() : blockIdx.x);
  constexpr int kPartners = Config::kConsumers + 32;
  // The warp's number through a shuffle, so that the compiler knows it is uniform.
  const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0);

  if (warp >= Config::kConsumers / 32) {
    if constexpr (Config::kRedistribute) ptx::decrease_registers<Config::kLoaderRegisters>();
    if (warp == Config::kConsumers / 32) {
      const Producer<Config> producer{p, shared, row_rank};
      producer.initialize_barriers();
      if (p.multicast > 1) {
        ptx::cluster_barrier();
      } else {
        ptx::named_barrier_arrive(0, kPartners);
      }
      producer.run(worker, split_rank);
    } else if (p.multicast > 1) {
      ptx::cluster_barrier();
    }
  } else {
    if constexpr (Config::kRedistribute) ptx::increase_registers<Config::kConsumerRegisters>();
    if (p.multicast > 1) {
      ptx::cluster_barrier();
    } else {
      ptx::named_barrier(0, kPartners);
    }
    ptx::launch_dependents();
    consume<Config>(p, shared, worker, split_rank, row_rank);
  }
  // A block must not go while others may still arrive at its barriers.
  if (p.multicast > 1) {
    __syncwarp();
    ptx::cluster_barrier();
  }
}

}  // namespace liquidgemm::cuda
