// The kernel: the pipeline, the sharing of one tile among blocks, and the epilogue put together.
//
// A tile's sums may lie in several places, because INT32 sums can be cut anywhere:
//
//   depth groups of a block, blocks of a cluster   Exchange: through shared memory, each finishes
//                                                  its share of the tile's units
//   workers of a stream (segments.cuh)             Partial: in global memory, one worker finishes
#pragma once

#include "gemm/cuda/w4a8_epilogue.cuh"
#include "gemm/cuda/w4a8_exchange.cuh"
#include "gemm/cuda/w4a8_pipeline.cuh"

namespace liquidgemm::cuda {

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
  ptx::store_release(partial.flag, 1, consumer.thread == 0);
}

template <class Config>
__device__ __forceinline__ void add_partial(Consumer<Config>& consumer,
                                            const Partial<Config>& partial) {
  if constexpr (Config::kPartialUnits > 0) {
    consumer.add_fetched_partial();
  } else {
    ptx::wait_for_flag(partial.flag);
    // Everybody has seen it before it is cleared.
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
  ptx::store_word(partial.flag, 0, consumer.thread == 0);
}

// Units chunk * kChunk and those behind it, for a loop that is not unrolled: registers cannot be
// indexed, so it is a choice among all.
template <class Config, int kChunk>
__device__ __forceinline__ void get_chunk(const Consumer<Config>& consumer, int chunk,
                                          int (&sums)[kChunk][4]) {
#pragma unroll
  for (int i = 0; i < Config::kUnits / kChunk; ++i) {
    // The first without a choice, or the chunk before would have to be kept for none of them.
    if (i > 0 && chunk != i) continue;
#pragma unroll
    for (int u = 0; u < kChunk; ++u) get_unit(consumer, i * kChunk + u, sums[u]);
  }
}

// A tile's outputs of four bytes. In a loop that chooses the registers, as gated ones in
// write_tile.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile_words(const W4A8Parameters& p,
                                                 const OutputOrigin& origin, const Scales& scales,
                                                 const Consumer<Config>& consumer) {
  const int thread = ptx::opaque(origin.thread);
  const int warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  // As many at once as the registers of three warp groups allow, or of fewer.
  constexpr int kAtOnce = Config::kConsumers > 256 ? 1 : 4;
  constexpr int kChunk = Config::kTokenUnits % kAtOnce == 0 ? kAtOnce : 1;
  constexpr int kChunks = Config::kUnits / kChunk;
#pragma unroll 1
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int row_block = chunk * kChunk / Config::kTokenUnits;
    const int token = chunk * kChunk % Config::kTokenUnits * 8 + 2 * t;
    // Stores are guarded by themselves. In a tile of one unit this test would make the assembler
    // move the main loop's addresses between registers in every round.
    if constexpr (kChunks > 1) {
      if (origin.row_block + row_block >= p.row_blocks || origin.token + token >= p.m) continue;
    }
    int sums[kChunk][4];
    get_chunk(consumer, chunk, sums);
    RowScales rows;
    rows.load(p, scales, row_block * kBlockRows + warp * 16 + g);
    const int row = (origin.row_block + row_block) * kBlockRows + warp * 16 + g;
#pragma unroll
    for (int u = 0; u < kChunk; ++u) {
      TokenPair tokens;
      tokens.load(scales, token + u * 8);
      write_words<Scales>(p, rows, row, origin.token + token + u * 8, tokens, sums[u]);
    }
  }
}

// A chunk of units of the same rows: staged in shared memory at `staged`, then one box for the copy
// engine, which runs on while the next chunk is made. kTurns: there are two places, and the next
// chunk's is that of the chunk before.
template <bool kGated, bool kTurns, class Config, class Scales, int kChunk>
__device__ __forceinline__ void write_chunk(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const Scales& scales, const Consumer<Config>& consumer,
                                            const RowScales (&rows)[1], int row_block, int token,
                                            const int (&sums)[kChunk][4], std::uint32_t staged) {
  const int lane = origin.thread % 32;
  TokenPair tokens[kChunk];
#pragma unroll
  for (int u = 0; u < kChunk; ++u) tokens[u].load(scales, token + u * 8 + 2 * (lane % 4));
  stage_units<kGated, Scales>(p, rows, tokens, sums, origin.thread, staged);
  // The box before this one has been read: its place is the next chunk's.
  if (kTurns) ptx::wait_for_stores_read();
  consumer.group_barrier();
  const int channel = (origin.row_block + row_block) * (kGated ? 32 : 64);
  ptx::store_tensor(&p.y_map, channel, origin.token + token, staged, origin.thread < 32);
  if constexpr (kGated) {
    // Where a tile is one chunk this test would make the assembler move the main loop's addresses
    // between registers in every round.
    if (Config::kUnits == kChunk || p.amax != nullptr) {
      raise_amax<kChunk>(
          p, staged, origin.thread, [&](int) { return origin.row_block + row_block; },
          [&](int u) { return origin.token + token + u * 8; });
    }
  }
}

// A chunk of ungated float outputs: as write_chunk, in two boxes.
template <class Config, class Scales, int kChunk>
__device__ __forceinline__ void write_float_chunk(const W4A8Parameters& p,
                                                  const OutputOrigin& origin, const Scales& scales,
                                                  const Consumer<Config>& consumer,
                                                  const RowScales (&rows)[1], int row_block,
                                                  int token, const int (&sums)[kChunk][4],
                                                  std::uint32_t staged) {
  TokenPair tokens[kChunk];
#pragma unroll
  for (int u = 0; u < kChunk; ++u) {
    tokens[u].load(scales, token + u * 8 + 2 * (origin.thread % 4));
  }
  float values[kChunk][4];
  unit_values<false, Scales>(p, rows, tokens, sums, values);
  stage_floats<false>(values, origin.thread, staged);
  ptx::fence_shared_for_bulk_copies();
  ptx::wait_for_stores_read();
  consumer.group_barrier();
  const int channel = (origin.row_block + row_block) * kBlockRows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    ptx::store_tensor(&p.y_map, channel + 32 * half, origin.token + token,
                      staged + half * kChunk * kFloatUnitStaged, origin.thread < 32);
  }
}

// Writes all ungated float outputs of a warp group, in a loop that chooses the registers.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile_floats(const W4A8Parameters& p,
                                                  const OutputOrigin& origin, const Scales& scales,
                                                  const Consumer<Config>& consumer, int& buffer) {
  constexpr int kChunk = Config::kFloatChunk, kChunks = Config::kUnits / kChunk;
  const int warp = origin.thread / 32, lane = origin.thread % 32;
#pragma unroll 1
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int row_block = chunk * kChunk / Config::kTokenUnits;
    const int token = chunk * kChunk % Config::kTokenUnits * 8;
    if (origin.row_block + row_block >= p.row_blocks || origin.token + token >= p.m) continue;
    int sums[kChunk][4];
    get_chunk(consumer, chunk, sums);
    RowScales rows[1];
    rows[0].load(p, scales, row_block * kBlockRows + warp * 16 + lane / 4);
    const int place = consumer.row_group * kOutputBuffers + buffer;
    buffer ^= 1;
    write_float_chunk(p, origin, scales, consumer, rows, row_block, token, sums,
                      consumer.shared.staging + place * Config::kOutputBytes);
  }
}

// Writes all units of a warp group. Unrolled, because registers cannot be indexed; but gated
// outputs take so many instructions that fetching them would take longer than choosing the
// registers in a loop.
template <class Config, class Scales>
__device__ __forceinline__ void write_tile(const W4A8Parameters& p, const OutputOrigin& origin,
                                           const Scales& scales, const Consumer<Config>& consumer,
                                           int& buffer) {
  if (!is_staged(p)) {
    if constexpr (Config::kFloatChunk > 0) {
      if (p.output == OutputType::kFloat32) {
        return write_tile_floats(p, origin, scales, consumer, buffer);
      }
    }
    return write_tile_words(p, origin, scales, consumer);
  }
  const int warp = origin.thread / 32, lane = origin.thread % 32, g = lane / 4;
  const auto staged = [&] {
    const int place = consumer.row_group * kOutputBuffers + buffer;
    buffer ^= 1;
    return consumer.shared.staging + place * Config::kOutputBytes;
  };
  if (p.gated) {
    constexpr int kChunk = Config::template kChunk<true>, kChunks = Config::kUnits / kChunk;
    static_assert(Config::kTokenUnits % kChunk == 0);
#pragma unroll 1
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int row_block = chunk * kChunk / Config::kTokenUnits;
      const int token = chunk * kChunk % Config::kTokenUnits * 8;
      if constexpr (kChunks > 1) {
        if (origin.row_block + row_block >= p.row_blocks || origin.token + token >= p.m) continue;
      }
      int sums[kChunk][4];
      get_chunk(consumer, chunk, sums);
      RowScales rows[1];
      rows[0].load(p, scales, row_block * kBlockRows + warp * 16 + g);
      write_chunk<true, true>(p, origin, scales, consumer, rows, row_block, token, sums, staged());
    }
    return;
  }
  constexpr int kChunk = Config::template kChunk<false>;
  static_assert(Config::kTokenUnits % kChunk == 0);
#pragma unroll
  for (int r = 0; r < Config::kRowBlocks; ++r) {
    if (origin.row_block + r >= p.row_blocks) break;
    RowScales rows[1];
    rows[0].load(p, scales, r * kBlockRows + warp * 16 + g);
#pragma unroll
    for (int j = 0; j < Config::kTokenUnits; j += kChunk) {
      if (origin.token + j * 8 >= p.m) break;
      int sums[kChunk][4];
#pragma unroll
      for (int u = 0; u < kChunk; ++u) get_unit(consumer, r * Config::kTokenUnits + j + u, sums[u]);
      write_chunk<false, true>(p, origin, scales, consumer, rows, r, j * 8, sums, staged());
    }
  }
}

// Writes the share of a depth group: its units lie one after another along the tokens.
template <bool kGated, class Config, class Scales>
__device__ __forceinline__ void write_share(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const Scales& scales, const Consumer<Config>& consumer,
                                            const int (&sums)[Exchange<Config>::kShare][4],
                                            std::uint32_t staging) {
  constexpr int kShare = Exchange<Config>::kShare;
  constexpr int kChunk = Config::template kChunk<kGated>;
  static_assert(Config::kRowBlocks == 1 && kShare % kChunk == 0);
  const int first = consumer.depth_group * kShare;
  if (first >= Config::kUnits || origin.row_block >= p.row_blocks) return;
  RowScales rows[1];
  rows[0].load(p, scales, origin.thread / 32 * 16 + origin.thread % 32 / 4);
#pragma unroll
  for (int l = 0; l < kShare; l += kChunk) {
    const int token = (first + l) * 8;
    if (origin.token + token >= p.m) break;
    int several[kChunk][4];
#pragma unroll
    for (int u = 0; u < kChunk; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) several[u][i] = sums[l + u][i];
    }
    write_chunk<kGated, false>(p, origin, scales, consumer, rows, 0, token, several,
                               staging + l * unit_staged_bytes<kGated>(p));
  }
}

// The same of ungated float outputs, staged by turns in the two halves of what the share has room
// for.
template <class Config, class Scales>
__device__ __forceinline__ void write_float_share(const W4A8Parameters& p,
                                                  const OutputOrigin& origin, const Scales& scales,
                                                  const Consumer<Config>& consumer,
                                                  const int (&sums)[Exchange<Config>::kShare][4],
                                                  std::uint32_t staging) {
  constexpr int kShare = Exchange<Config>::kShare, kChunk = Config::kFloatChunk;
  static_assert(Config::kRowBlocks == 1 && kShare % kChunk == 0 && 4 * kChunk <= kShare);
  const int first = consumer.depth_group * kShare;
  if (first >= Config::kUnits || origin.row_block >= p.row_blocks) return;
  RowScales rows[1];
  rows[0].load(p, scales, origin.thread / 32 * 16 + origin.thread % 32 / 4);
#pragma unroll
  for (int l = 0; l < kShare; l += kChunk) {
    const int token = (first + l) * 8;
    if (origin.token + token >= p.m) break;
    int several[kChunk][4];
#pragma unroll
    for (int u = 0; u < kChunk; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) several[u][i] = sums[l + u][i];
    }
    write_float_chunk(p, origin, scales, consumer, rows, 0, token, several,
                      staging + l / kChunk % 2 * kChunk * 2 * kFloatUnitStaged);
  }
}

// Writes units `first`, first + stride, ... of a warp group below `end`, each a box for the copy
// engine, staged one behind another.
template <class Config, class Scales, int kUnits>
__device__ __forceinline__ void write_units(const W4A8Parameters& p, const OutputOrigin& origin,
                                            const Scales& scales, const Consumer<Config>& consumer,
                                            int first, int stride, int end,
                                            const int (&sums)[kUnits][4], std::uint32_t staged) {
  constexpr int kRows = Config::kRowBlocks == 1 ? 1 : kUnits;
  // Opaque, or the addresses of all units are derived before the main loop, and spill.
  first = ptx::opaque(first);
  const int thread = ptx::opaque(origin.thread);
  const int warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
  const auto unit = [&](int u) { return min(first + u * stride, end - 1); };
  const auto row_block = [&](int u) {
    return Config::kRowBlocks == 1 ? 0 : unit(u) / Config::kTokenUnits;
  };
  const auto token = [&](int u) { return unit(u) % Config::kTokenUnits * 8; };
  const auto wanted = [&](int u) {
    return first + u * stride < end && origin.row_block + row_block(u) < p.row_blocks;
  };
  TokenPair tokens[kUnits];
  RowScales rows[kRows];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) tokens[u].load(scales, token(u) + 2 * t);
#pragma unroll
  for (int u = 0; u < kRows; ++u) {
    rows[u].load(p, scales, row_block(u) * kBlockRows + warp * 16 + g);
  }
  if (!is_staged(p)) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int row = (origin.row_block + row_block(u)) * kBlockRows + warp * 16 + g;
      if (wanted(u)) {
        write_words<Scales>(p, rows[u % kRows], row, origin.token + token(u) + 2 * t, tokens[u],
                            sums[u]);
      }
    }
    return;
  }
  if (p.gated) {
    stage_units<true, Scales>(p, rows, tokens, sums, thread, staged);
  } else {
    stage_units<false, Scales>(p, rows, tokens, sums, thread, staged);
  }
  consumer.group_barrier();
  const int channels = p.gated ? 32 : 64;
  const int unit_bytes = p.gated ? unit_staged_bytes<true>(p) : unit_staged_bytes<false>(p);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    ptx::store_tensor(&p.y_map, (origin.row_block + row_block(u)) * channels,
                      origin.token + token(u), staged + u * unit_bytes, wanted(u) && thread < 32);
  }
  if (p.gated && p.amax != nullptr) {
    raise_amax<kUnits>(
        p, staged, thread,
        [&](int u) { return wanted(u) ? origin.row_block + row_block(u) : p.row_blocks; },
        [&](int u) { return origin.token + token(u); });
  }
}

// Writes a tile whose sums lie in several warp groups or blocks.
template <class Config, class Scales>
__device__ __forceinline__ void share_tile(const W4A8Parameters& p, const OutputOrigin& origin,
                                           const Scales& scales, const Consumer<Config>& consumer,
                                           int split_rank) {
  const Exchange<Config> exchange(p, consumer, split_rank);
  int sums[Exchange<Config>::kShare][4];
  exchange.gather(sums);
  if constexpr (Config::kDepthGroups > 1) {
    if (p.split == 1 && is_staged(p)) {
      if (p.gated) {
        write_share<true>(p, origin, scales, consumer, sums, exchange.staging());
      } else {
        write_share<false>(p, origin, scales, consumer, sums, exchange.staging());
      }
      return;
    }
  }
  if constexpr (Config::kDepthGroups > 1 && Config::kFloatChunk > 0) {
    if (p.split == 1 && p.output == OutputType::kFloat32) {
      return write_float_share(p, origin, scales, consumer, sums, exchange.staging());
    }
  }
  std::uint32_t staged = exchange.staging();
  exchange.finish(sums, [&](int unit, int stride, int end, const auto& several) {
    write_units(p, origin, scales, consumer, unit, stride, end, several, staged);
    staged += sizeof(several) / sizeof(several[0]) * kUnitOutputBytes;
  });
}

template <class Config>
__device__ __forceinline__ void consume(const W4A8Parameters& p, const SharedMemory<Config>& shared,
                                        int warp, int worker, int split_rank, int row_rank) {
  const Start<Config> start{p, shared};
  if (warp == 0) ptx::mbarrier_init(shared.previous_ended, 1);
  start.set_barriers(1 + warp, p.stages, Config::kConsumers / 32);
  start.announce();
  ptx::launch_dependents();
  Consumer<Config> consumer(p, shared, warp, split_rank + row_rank);
  const bool exchanges = Config::kDepthGroups > 1 || p.split > 1;
  if (p.split > 1) Exchange<Config>(p, consumer, split_rank).expect();
  constexpr bool kCorrected = Config::kUnpack == Unpack::kUnsigned;
  const TileScales<Config::kTokens, Config::kRowBlocks, kCorrected> scales{consumer.scales()};
  SegmentIterator segments(p, worker);
  Segment segment;
  bool first = true;
  int buffer = 0;  // of the epilogue
  // Activations, scales, sums and Y belong to the kernels before until they have ended.
  ptx::wait_for_previous_kernel();
  ptx::mbarrier_arrive(shared.previous_ended, threadIdx.x == 0);
  while (segments.next(segment)) {
    const TileOrigin tile = tile_origin<Config>(p, segment.tile, row_rank);
    const OutputOrigin origin{tile.row_block + consumer.row_group * Config::kRowBlocks, tile.token,
                              consumer.thread};
    // The last tile's scales are no longer read.
    if (!first) consumer.group_barrier();
    scales.fetch(p, origin);
    if (first) start.await();
    first = false;
    const Segment part = split_segment(p, segment, split_rank);
    consumer.accumulate(part.begin, part.end);
    ptx::wait_for_words();
    consumer.group_barrier();
    if (exchanges) {
      share_tile(p, origin, scales, consumer, split_rank);
      break;  // one tile a cluster
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
  ptx::wait_for_stores_read();
}

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, 1)
    w4a8_kernel(const __grid_constant__ W4A8Parameters p) {
  extern __shared__ __align__(1024) unsigned char memory[];
  // The warp's number through a shuffle, so that the compiler knows it is uniform.
  const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / 32, 0);
  // The maps are in no cache yet, and the first copies need them.
  if (warp == Config::kConsumers / 32) {
    ptx::prefetch_map(&p.w_map);
    ptx::prefetch_map(&p.x_map);
  }
  const SharedMemory<Config> shared(ptx::shared_address(memory), p.stages);
  // A cluster shares either a tile along K or the tokens of neighbouring row tiles.
  const bool clustered = p.split > 1 || p.multicast > 1;
  const int rank = clustered ? ptx::cluster_rank() : 0;
  const int split_rank = p.split > 1 ? rank : 0, row_rank = p.multicast > 1 ? rank : 0;
  // A finisher waits for workers of higher numbers: they get the blocks that start first.
  const int worker = p.workers - 1 - (clustered ? ptx::cluster_index() : blockIdx.x);

  if (warp >= Config::kConsumers / 32) {
    if constexpr (Config::kRedistribute) ptx::decrease_registers<Config::kLoaderRegisters>();
    if (warp == Config::kConsumers / 32) {
      const Producer<Config> producer{p, shared, row_rank};
      producer.run(worker, split_rank);
    } else if (p.multicast > 1) {
      ptx::cluster_barrier();
    }
  } else {
    if constexpr (Config::kRedistribute) ptx::increase_registers<Config::kConsumerRegisters>();
    consume<Config>(p, shared, warp, worker, split_rank, row_rank);
  }
  // A block must not go while others may still arrive at its barriers.
  if (p.multicast > 1) {
    __syncwarp();
    ptx::cluster_barrier();
  }
}

}  // namespace liquidgemm::cuda
