// The kernel: the pipeline, the sharing of one tile among blocks, and the epilogue put together.
//
// A tile's sums may lie in several places, because INT32 sums can be cut anywhere:
//
//   depth groups of a block, blocks of a cluster   Exchange: through shared memory, each finishes
//                                                  its share of the tile's units
//   workers of a stream (segments.cuh)             Partial: in global memory, one worker finishes
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

// Sharing a tile among the `depth` groups of `split` blocks, in two steps, because shared memory is
// several times as fast within a block as across:
//
//   within the block    depth group d adds up the units d, d + depth, d + 2 depth, ...
//                       [row group][unit][depth group that sends]
//   across the cluster  of these, the l-th is finished by block l % split
//                       [row group][depth group][l / split][block that sends]
//
// Units of 2,048 bytes. The first array lies in the ring, which the main loop has left.
template <class Config>
struct Exchange {
  static constexpr int kDepth = Config::kDepthGroups;

  const W4A8Parameters& p;
  const Consumer<Config>& consumer;
  int rank;
  std::uint32_t across, arrived;

  __device__ __forceinline__ Exchange(const W4A8Parameters& parameters,
                                      const Consumer<Config>& source, int block)
      : p(parameters), consumer(source), rank(block) {
    const int share = consumer.row_group * kDepth + consumer.depth_group;
    across = consumer.shared.x + p.exchange_offset +
             share * p.exchange_most * p.split * kUnitBytes + consumer.thread * 16;
    arrived = consumer.shared.exchanged + consumer.row_group * 8;
  }

  // Before the main loop: blocks that send to this one count on the barrier.
  __device__ __forceinline__ void expect() const {
    if (consumer.depth_group == 0 && consumer.thread < 32) {
      ptx::mbarrier_init(arrived, 1);
      ptx::mbarrier_init_fence();
      __syncwarp();
      ptx::mbarrier_expect_bytes(arrived, p.exchange_bytes[rank]);
    }
    if (p.exchange_apart) ptx::cluster_arrive();
  }

  __device__ __forceinline__ std::uint32_t within(int unit) const {
    const int index = (consumer.row_group * Config::kUnits + unit) * kDepth;
    return consumer.shared.x + index * kUnitBytes + consumer.thread * 16;
  }

  // The l-th unit of this depth group to the block that finishes it. A block's own stays with the
  // thread that will read it.
  __device__ __forceinline__ void send(int block, int slot, const int (&values)[4]) const {
    const std::uint32_t place = across + (slot * p.split + rank) * kUnitBytes;
    if (block == rank) {
      ptx::store_shared(place, values);
    } else {
      ptx::store_async(ptx::remote_address(place, block), values,
                       ptx::remote_address(arrived, block));
    }
  }

  // Adds `count` units that lie one after another.
  __device__ __forceinline__ static void add(std::uint32_t address, int count, int (&values)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = 0;
#pragma unroll 4
    for (int c = 0; c < count; ++c) {
      int part[4];
      ptx::load_shared(address + c * kUnitBytes, part);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] += part[i];
    }
  }

  // Calls finish(unit, sums) for every unit that this warp group finishes.
  template <class Finish>
  __device__ __forceinline__ void run(const Finish& finish) const {
    const int d = consumer.depth_group;
    if constexpr (kDepth > 1) {
      ptx::named_barrier(1, Config::kConsumers);  // nobody in this block reads the ring any more
#pragma unroll
      for (int u = 0; u < Config::kUnits; ++u) {
        int values[4];
        get_unit(consumer, u, values);
        ptx::store_shared(within(u) + d * kUnitBytes, values);
      }
      ptx::named_barrier(1, Config::kConsumers);
    }
    if (p.split > 1) {
      // The others have started, or, where the second array lies in their rings, left those.
      if (!p.exchange_apart) ptx::cluster_arrive();
      ptx::cluster_wait();
    }
    int block = 0, slot = 0;
    const auto next = [&] {
      if (++block == p.split) {
        block = 0;
        ++slot;
      }
    };
    if constexpr (kDepth > 1) {
      for (int u = d; u < Config::kUnits; u += kDepth) {
        int values[1][4];
        add(within(u), kDepth, values[0]);
        if (p.split == 1) {
          finish(u, values);
        } else {
          send(block, slot, values[0]);
          next();
        }
      }
    } else {
#pragma unroll
      for (int u = 0; u < Config::kUnits; ++u) {
        int values[4];
        get_unit(consumer, u, values);
        send(block, slot, values);
        next();
      }
    }
    if (p.split == 1) return;
    ptx::mbarrier_wait(arrived, 0);
    slot = 0;
    for (int u = d + rank * kDepth; u < Config::kUnits; u += kDepth * p.split) {
      int values[1][4];
      add(across + slot++ * p.split * kUnitBytes, p.split, values[0]);
      finish(u, values);
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

// The bare sums of a tile, for tests.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile_sums(const W4A8Parameters& p, const OutputOrigin& origin,
                                                const Scales& scales,
                                                const Consumer<Config>& consumer) {
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int u = 0; u < Config::kUnits; ++u) {
    const int row_block = u / Config::kTokenUnits, token = u % Config::kTokenUnits * 8 + 2 * t;
    TokenPair tokens;
    tokens.load(scales, token);
    int sums[4];
    get_unit(consumer, u, sums);
    const int row = (origin.row_block + row_block) * kBlockRows + warp * 16 + g;
    write_sums<Scales>(p, row, origin.token + token, tokens, sums);
  }
}

// A chunk of units: staged in shared memory, then one box for the copy engine, which runs on while
// the next chunk is made in the other buffer.
template <bool kGated, class Config, class Scales, int kChunk>
__device__ __forceinline__ void write_chunk(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const Scales& scales, const Consumer<Config>& consumer,
                                            const RowScales& rows, int row_block, int token,
                                            const int (&sums)[kChunk][4], int& buffer) {
  using Stage = Staging<kGated>;
  constexpr int kAtOnce = kChunk % (4 / Stage::kMatrices) == 0 ? 4 / Stage::kMatrices : 1;
  const int warp = origin.thread / 32, lane = origin.thread % 32;
  TokenPair tokens[kChunk];
#pragma unroll
  for (int u = 0; u < kChunk; ++u) tokens[u].load(scales, token + u * 8 + 2 * (lane % 4));
  UnitOutputs outputs[kChunk];
  units_outputs<kGated, Scales>(p, rows, tokens, sums, outputs);
  const std::uint32_t staged =
      consumer.shared.staging +
      (consumer.row_group * Config::kBuffers + buffer) * Config::kOutputBytes;
  const std::uint32_t staged_row = staged + Stage::template row<kAtOnce>(warp, lane);
#pragma unroll
  for (int u = 0; u < kChunk; u += kAtOnce) {
    std::uint32_t matrices[kAtOnce * Stage::kMatrices];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      matrices[i * Stage::kMatrices] = outputs[u + i].low;
      if constexpr (!kGated) matrices[i * 2 + 1] = outputs[u + i].high;
    }
    ptx::store_transposed(staged_row + u * Stage::kUnitStaged, matrices);
  }
  ptx::fence_shared_for_bulk_copies();
  // The box before this one has been read: its buffer is the next chunk's.
  if (Config::kBuffers > 1 && origin.thread == 0) ptx::wait_for_stores_read();
  consumer.group_barrier();
  if (origin.thread == 0) {
    const int channel = (origin.row_block + row_block) * (kGated ? 32 : 64);
    ptx::store_tensor(&p.y_map, channel, origin.token + token, staged);
  }
  if constexpr (Config::kBuffers > 1) buffer ^= 1;
}

// Writes all units of a warp group. Unrolled, because registers cannot be indexed; but gated
// outputs take so many instructions that fetching them would take longer than choosing the
// registers in a loop.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile(const W4A8Parameters& p, const OutputOrigin& origin,
                                           const Scales& scales, const Consumer<Config>& consumer,
                                           int& buffer) {
  if (p.output == OutputType::kInt32) return write_tile_sums(p, origin, scales, consumer);
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4;
  if (p.gated) {
    constexpr int kChunk = Config::template kChunk<true>, kChunks = Config::kUnits / kChunk;
    static_assert(Config::kTokenUnits % kChunk == 0);
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
      const RowScales rows(p, scales, row_block * kBlockRows + warp * 16 + g);
      write_chunk<true>(p, origin, scales, consumer, rows, row_block, token, sums, buffer);
    }
    return;
  }
  constexpr int kChunk = Config::template kChunk<false>;
  static_assert(Config::kTokenUnits % kChunk == 0);
#pragma unroll
  for (int r = 0; r < Config::kRowBlocks; ++r) {
    if (origin.row_block + r >= p.row_blocks) break;
    const RowScales rows(p, scales, r * kBlockRows + warp * 16 + g);
#pragma unroll
    for (int j = 0; j < Config::kTokenUnits; j += kChunk) {
      if (origin.token + j * 8 >= p.m) break;
      int sums[kChunk][4];
#pragma unroll
      for (int u = 0; u < kChunk; ++u) get_unit(consumer, r * Config::kTokenUnits + j + u, sums[u]);
      write_chunk<false>(p, origin, scales, consumer, rows, r, j * 8, sums, buffer);
    }
  }
}

template <class Config>
__device__ __forceinline__ void consume(const W4A8Parameters& p, const SharedMemory<Config>& shared,
                                        int worker, int split_rank, int row_rank) {
  Consumer<Config> consumer(p, shared, split_rank + row_rank);
  const bool exchanges = Config::kDepthGroups > 1 || p.split > 1;
  if (p.split > 1) Exchange<Config>(p, consumer, split_rank).expect();
  constexpr bool kCorrected = Config::kUnpack == Unpack::kUnsigned;
  const TileScales<Config::kTokens, Config::kRowBlocks, kCorrected> scales{consumer.scales()};
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
    // The last tile's scales, and its outputs where there is one buffer, are no longer read.
    if (!first) {
      if (Config::kBuffers == 1 && consumer.thread == 0) ptx::wait_for_stores_read();
      consumer.group_barrier();
    }
    first = false;
    scales.fetch(p, origin);
    const Segment part = split_segment(p, segment, split_rank);
    consumer.accumulate(part.begin, part.end);
    ptx::wait_for_words();
    consumer.group_barrier();
    if (exchanges) {
      Exchange<Config>(p, consumer, split_rank).run([&](int unit, const int(&sums)[1][4]) {
        write_unit(p, origin, scales, unit / Config::kTokenUnits, unit % Config::kTokenUnits * 8,
                   sums);
      });
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
      producer.run(worker, split_rank, [&] {
        if (p.multicast > 1) {
          ptx::cluster_barrier();
        } else {
          ptx::named_barrier_arrive(0, kPartners);
        }
      });
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
