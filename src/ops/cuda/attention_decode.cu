// Decode attention: one row for each sequence.
//
// A warp computes one unit after the other: one split of one sequence and one KV head, whose query
// heads are the rows. Warps share nothing but the block's shared memory, cut into places of one
// head page each, which are dealt out to the warps that have work:
//
//   place    K half of a head page | V half | q of the unit, with the unit's first page
//
// A warp's places are a ring. As soon as its K half has been read a place takes in the K half of
// the page `depth` pages on, of the warp's next unit if need be, and so for V: loads never wait for
// arithmetic, nor for the end of a unit. What tells where to load from is itself read one and two
// units ahead.
//
// A sequence of one split is finished by its warp. Otherwise each split leaves (m, l, o) in the
// workspace, and the warp that comes last combines them, in ascending order.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "ops/cuda/attention_tile.cuh"

namespace liquidgemm::cuda {
namespace {

constexpr int kSharedBytes = 232448;  // what a block may have on this architecture
constexpr int kMaxDepth = 4;          // pages that a warp loads ahead
constexpr int kRecords = 8;           // units between loading and computing, and one: a power of 2

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
  int kv_heads;
  int group;
  int head_dim;
  int places;
  float softmax_scale;
  bool aligned;
};

// What the arithmetic needs to know of a unit, left in shared memory by the loading.
struct alignas(16) Record {
  std::int32_t slot, row, head, length;
  std::int32_t split, position, padding[2];
};

template <KvElement kElement, int kWidth>
constexpr int place_bytes(int group) {
  return kv_head_page_bytes(kElement, kWidth) + group * kWidth * 2;
}
// Two barriers a place, kRecords records a warp.
template <KvElement kElement, int kWidth>
constexpr int places(int group, int warps) {
  return (kSharedBytes - warps * kRecords * static_cast<int>(sizeof(Record))) /
         (place_bytes<kElement, kWidth>(group) + 16);
}
// As many as registers and shared memory allow.
template <KvElement kElement, int kWidth, int kTiles>
constexpr int kWarps = std::min(kTiles == 2                                    ? 8
                                : kWidth == 128 || kElement == KvElement::kF16 ? 12
                                                                               : 16,
                                places<kElement, kWidth>(8 * kTiles, 16));

// ---- Partial results of a split ----------------------------------------------------------------

// float4s of one unit and head: o as lanes with rows below `group` hold it, then m and l.
//
//   o      [tile of rows][tile of dimensions][8 g][lanes t]
//   m, l   [tile of rows][lanes t]  m and l of row 2 t, of row 2 t + 1
template <int kTiles>
__host__ __device__ constexpr int partial_lanes(int group) {
  return kTiles == 2 || group > 6 ? 4 : (group + 1) / 2;
}
template <int kWidth, int kTiles>
__host__ __device__ constexpr int partial_size(int group) {
  return kTiles * partial_lanes<kTiles>(group) * (kWidth / 16 * 8 + 1);
}

template <int kWidth, int kTiles>
__device__ __forceinline__ void store_partial(float4* to, int group, int g, int t,
                                              const PerRow<kTiles>& m, const PerRow<kTiles>& l,
                                              const Outputs<kWidth, kTiles>& o) {
  const int lanes = partial_lanes<kTiles>(group);
  if (t >= lanes) return;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
      __stcg(to + ((n * (kWidth / 16) + j) * 8 + g) * lanes + t,
             make_float4(o[j][n][0], o[j][n][1], o[j][n][2], o[j][n][3]));
    }
    if (g == 0) {
      __stcg(to + kTiles * (kWidth / 16) * 8 * lanes + n * lanes + t,
             make_float4(m[n][0], l[n][0], m[n][1], l[n][1]));
    }
  }
}

// Tile n of rows of a partial result.
template <int kWidth, int kTiles>
__device__ __forceinline__ void load_partial(const float4* from, int group, int g, int t, int n,
                                             float4& sums, float4 (&o)[kWidth / 16]) {
  const int lanes = partial_lanes<kTiles>(group);
  t = min(t, lanes - 1);  // lanes without rows read someone's
  sums = __ldcg(from + kTiles * (kWidth / 16) * 8 * lanes + n * lanes + t);
#pragma unroll
  for (int j = 0; j < kWidth / 16; ++j) {
    o[j] = __ldcg(from + ((n * (kWidth / 16) + j) * 8 + g) * lanes + t);
  }
}

// ---- Loading -----------------------------------------------------------------------------------

// Loads a warp's units page after page into its ring of places. All lanes call everything.
template <KvElement kElement, int kWidth>
class Loader {
 public:
  static constexpr int kHalfBytes = kv_half_bytes(kElement, kWidth);

  __device__ __forceinline__ Loader(const DecodeKernelArguments& arguments, int first, int stride,
                                    int total, int lane, std::uint32_t ring, std::uint32_t barriers,
                                    int depth, Record* records)
      : arguments_(arguments),
        stride_(stride),
        total_(total),
        lane_(lane),
        q_bytes_(arguments.group * kWidth * 2),
        place_bytes_(2 * kHalfBytes + q_bytes_),
        ring_(ring),
        barriers_(barriers),
        depth_(depth),
        records_(records),
        unit_(first - stride),
        next_(read_unit(first)),
        after_next_(read_unit(first + stride)) {
    read_work(first);
    advance();
  }

  // The K half of the next page, and q with the first one of a unit.
  __device__ __forceinline__ void load_keys() {
    if (unit_ >= total_) return;
    const std::uint32_t place = ring_ + static_cast<std::uint32_t>(place_ * place_bytes_);
    const std::uint32_t barrier = barriers_ + static_cast<std::uint32_t>(place_ * 16);
    const int id = __shfl_sync(kWholeWarp, page_id_, page_);
    source_ = arguments_.pages + id * arguments_.page_bytes + head_ * std::int64_t{2 * kHalfBytes};
    if (page_ == 0) {
      ptx::mbarrier_expect_bytes(barrier, static_cast<std::uint32_t>(kHalfBytes + q_bytes_));
      const std::int64_t row = std::int64_t{row_} * arguments_.kv_heads + head_;
      ptx::copy_bulk(place + 2 * kHalfBytes, arguments_.q + row * q_bytes_, q_bytes_, barrier,
                     ptx::kEvictNormal);
    } else {
      ptx::mbarrier_expect_bytes(barrier, kHalfBytes);
    }
    ptx::copy_bulk(place, source_, kHalfBytes, barrier, ptx::kEvictFirst);
  }

  // The V half of the same page; moves on to the next.
  __device__ __forceinline__ void load_values() {
    if (unit_ >= total_) return;
    const std::uint32_t place = ring_ + static_cast<std::uint32_t>(place_ * place_bytes_);
    const std::uint32_t barrier = barriers_ + static_cast<std::uint32_t>(place_ * 16 + 8);
    ptx::mbarrier_expect_bytes(barrier, kHalfBytes);
    ptx::copy_bulk(place + kHalfBytes, source_ + kHalfBytes, kHalfBytes, barrier, ptx::kEvictFirst);
    if (++place_ == depth_) place_ = 0;
    if (++page_ == pages_) advance();
  }

 private:
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
      Record& record = records_[recorded_ % kRecords];
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
  const int stride_, total_, lane_, q_bytes_, place_bytes_;
  const std::uint32_t ring_, barriers_;
  const int depth_;
  Record* const records_;
  const std::uint8_t* source_ = nullptr;
  int unit_, head_ = 0, row_ = 0, page_ = 0, pages_ = 0, place_ = 0, page_id_ = 0;
  unsigned recorded_ = 0;
  AttentionUnit next_, after_next_;
  std::int32_t next_length_ = 0, next_row_ = 0, next_page_id_ = 0;
};

// ---- Arithmetic --------------------------------------------------------------------------------

template <KvElement kElement, int kWidth, int kTiles>
class UnitRows {
 public:
  __device__ __forceinline__ UnitRows(const DecodeKernelArguments& arguments, int lane)
      : arguments_(arguments), g_(lane / 4), t_(lane % 4) {}

  // The queries, in shared memory. Rows past the group repeat its last.
  __device__ __forceinline__ void start(const std::uint8_t* queries) {
    state_.start();
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) o_[j][n][r] = 0.0f;
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const std::uint8_t* row = queries + min(8 * n + g_, arguments_.group - 1) * (kWidth * 2);
#pragma unroll
      for (int s = 0; s < kWidth / 16; ++s) {
        const uint2 four =
            *reinterpret_cast<const uint2*>(row + key_dimension<kElement, kWidth>(s, t_) * 2);
        q_[s][n][0] = four.x;
        q_[s][n][1] = four.y;
      }
    }
    if constexpr (kElement == KvElement::kInt4) sum_queries<kWidth, kTiles>(q_, q_sum_);
  }

  // Scores of the page whose K half is at `keys`; the first `visible` tokens count.
  __device__ __forceinline__ void score(const std::uint8_t* keys, int visible) {
    page_dots<kElement, kWidth, kTiles>(keys, g_, t_, q_, scores_);
    int rows[kTiles][2];
    fill(rows, visible);
    const auto* parameters =
        reinterpret_cast<const std::uint32_t*>(keys + key_parameter_offset(kElement, kWidth, 0));
    if (visible < kKvPageTokens) {
      scale_dots<kElement, kTiles, true>(scores_, parameters, g_, arguments_.softmax_scale, q_sum_,
                                         rows);
    } else {
      scale_dots<kElement, kTiles, false>(scores_, parameters, g_, arguments_.softmax_scale, q_sum_,
                                          rows);
    }
  }

  // Adds its V half, at `values`.
  __device__ __forceinline__ void add(const std::uint8_t* values, int visible) {
    if (visible < kKvPageTokens) {
      add_masked<true>(values, visible);
    } else {
      add_masked<false>(values, visible);
    }
  }

  __device__ __forceinline__ void finish(const Record& record) {
    end_split<kElement, kWidth, kTiles, true>(state_, o_);
    const int splits = (record.length + numerics::kAttentionSplit - 1) / numerics::kAttentionSplit;
    if (splits > 1) {
      const std::int64_t stride = partial_size<kWidth, kTiles>(arguments_.group);
      float4* partial =
          arguments_.partials +
          (std::int64_t{record.position} * arguments_.kv_heads + record.head) * stride;
      store_partial<kWidth, kTiles>(partial, arguments_.group, g_, t_, state_.m, state_.l, o_);
      if (!is_last(
              arguments_.counters + std::int64_t{record.slot} * arguments_.kv_heads + record.head,
              splits)) {
        return;
      }
      const std::int64_t next = arguments_.kv_heads * stride;
      combine_splits(partial - record.split * next, next, splits);
    }
    write(record);
  }

 private:
  static __device__ __forceinline__ void fill(int (&rows)[kTiles][2], int visible) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) rows[n][0] = rows[n][1] = visible;
  }

  template <bool kMasked>
  __device__ __forceinline__ void add_masked(const std::uint8_t* values, int visible) {
    int rows[kTiles][2];
    fill(rows, visible);
    const auto* parameters =
        reinterpret_cast<const std::uint32_t*>(values + key_parameter_offset(kElement, kWidth, 0));
    PerRow<kTiles> factor;
    PageProbabilities<kTiles> probabilities;
    page_softmax<kElement, kTiles, true, kMasked>(scores_, parameters, g_, rows, state_, factor,
                                                  probabilities);
    rescale<kWidth, kTiles>(o_, factor);
    add_page_values<kElement, kWidth, kTiles, kMasked>(values, g_, t_, visible, probabilities, o_);
  }

  // Whether all other splits of the sequence and head have left their results, which are then
  // visible. The last one clears the counter for the next launch.
  __device__ __forceinline__ bool is_last(unsigned* counter, int splits) const {
    __threadfence();
    __syncwarp();
    unsigned before = 0;
    if (g_ == 0 && t_ == 0) {
      before = atomicAdd(counter, 1u);
      if (before == static_cast<unsigned>(splits - 1)) *counter = 0;
    }
    before = __shfl_sync(kWholeWarp, before, 0);
    __threadfence();
    return before == static_cast<unsigned>(splits - 1);
  }

  __device__ __forceinline__ void combine_splits(const float4* first, std::int64_t next,
                                                 int splits) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      float4 sums;
      float4 o[kWidth / 16];
      load_partial<kWidth, kTiles>(first, arguments_.group, g_, t_, n, sums, o);
      state_.m[n][0] = sums.x;
      state_.l[n][0] = sums.y;
      state_.m[n][1] = sums.z;
      state_.l[n][1] = sums.w;
#pragma unroll
      for (int j = 0; j < kWidth / 16; ++j) {
        o_[j][n][0] = o[j].x;
        o_[j][n][1] = o[j].y;
        o_[j][n][2] = o[j].z;
        o_[j][n][3] = o[j].w;
      }
#pragma unroll 1
      for (int split = 1; split < splits; ++split) {
        load_partial<kWidth, kTiles>(first + split * next, arguments_.group, g_, t_, n, sums, o);
        combine_row<kWidth, kTiles>(n, 0, state_.m, state_.l, o_, sums.x, sums.y,
                                    [&](int j, int r) { return r == 0 ? o[j].x : o[j].z; });
        combine_row<kWidth, kTiles>(n, 1, state_.m, state_.l, o_, sums.z, sums.w,
                                    [&](int j, int r) { return r == 1 ? o[j].y : o[j].w; });
      }
    }
  }

  __device__ __forceinline__ void write(const Record& record) const {
    float* row = arguments_.out + record.row * arguments_.ld_out;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int head = 8 * n + 2 * t_ + c;
        if (head >= arguments_.group) continue;
        write_row<kWidth, kTiles>(
            o_, state_.l, n, c, g_,
            row + (record.head * arguments_.group + head) * std::int64_t{arguments_.head_dim},
            arguments_.head_dim, arguments_.aligned);
      }
    }
  }

  const DecodeKernelArguments& arguments_;
  const int g_, t_;
  Queries<kWidth, kTiles> q_;
  PerRow<kTiles> q_sum_;
  SplitState<kTiles, true> state_;
  PageScores<kTiles> scores_;
  Outputs<kWidth, kTiles> o_;
};

template <KvElement kElement, int kWidth, int kTiles>
__global__ __launch_bounds__((kWarps<kElement, kWidth, kTiles> * 32), 1) void decode_kernel(
    const __grid_constant__ DecodeKernelArguments arguments) {
  extern __shared__ __align__(128) std::uint8_t shared[];
  const int warp = __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x / 32), 0);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int blocks = static_cast<int>(gridDim.x);
  const int total = *arguments.unit_count * arguments.kv_heads;
  // Few units are spread over all multiprocessors, and their warps share all of the places.
  const int warps = min(static_cast<int>(blockDim.x / 32), (total + blocks - 1) / blocks);
  if (warp >= warps) return;
  const int depth = min(arguments.places / warps, kMaxDepth);
  const int place_size = place_bytes<kElement, kWidth>(arguments.group);
  constexpr int kHalfBytes = kv_half_bytes(kElement, kWidth);

  const std::uint8_t* ring = shared + warp * depth * place_size;
  const std::uint32_t shared_begin = ptx::shared_address(shared);
  const std::uint32_t barriers =
      shared_begin + static_cast<std::uint32_t>(arguments.places * place_size + warp * depth * 16);
  Record* records =
      reinterpret_cast<Record*>(shared + arguments.places * (place_size + 16)) + warp * kRecords;
  for (int i = 0; i < 2 * depth; ++i) {
    ptx::mbarrier_init(barriers + static_cast<std::uint32_t>(8 * i), 1);
  }
  ptx::mbarrier_init_fence();
  __syncwarp();

  const int first = warp * blocks + static_cast<int>(blockIdx.x);
  const int stride = warps * blocks;
  Loader<kElement, kWidth> loader(
      arguments, first, stride, total, lane,
      shared_begin + static_cast<std::uint32_t>(warp * depth * place_size), barriers, depth,
      records);
  for (int i = 0; i < depth; ++i) {
    loader.load_keys();
    loader.load_values();
  }
  __syncwarp();

  UnitRows<kElement, kWidth, kTiles> rows(arguments, lane);
  int place = 0;
  std::uint32_t parity = 0;
  unsigned unit_number = 0;
#pragma unroll 1
  for (int unit = first; unit < total; unit += stride, ++unit_number) {
    const Record& record = records[unit_number % kRecords];
    const int tokens =
        min(record.length - record.split * numerics::kAttentionSplit, numerics::kAttentionSplit);
#pragma unroll 1
    for (int begin = 0; begin < tokens; begin += kKvPageTokens) {
      const std::uint8_t* keys = ring + place * place_size;
      const std::uint32_t barrier = barriers + static_cast<std::uint32_t>(place * 16);
      const int visible = min(tokens - begin, kKvPageTokens);
      ptx::mbarrier_wait(barrier, parity);
      if (begin == 0) rows.start(keys + 2 * kHalfBytes);
      rows.score(keys, visible);
      __syncwarp();
      loader.load_keys();
      ptx::mbarrier_wait(barrier + 8, parity);
      rows.add(keys + kHalfBytes, visible);
      __syncwarp();
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

using DecodeKernel = void (*)(DecodeKernelArguments);

struct DecodeLaunch {
  DecodeKernel kernel;
  int warps;
  int places;
  int shared_bytes;
};

template <KvElement kElement, int kWidth, int kTiles>
Result<DecodeLaunch> decode_launch(int group) {
  // Once; remembers a failure too.
  static const Status opted_in =
      cuda_status(cudaFuncSetAttribute(decode_kernel<kElement, kWidth, kTiles>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
                  "cudaFuncSetAttribute(decode attention)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  constexpr int kMost = kWarps<kElement, kWidth, kTiles>;
  DecodeLaunch launch;
  launch.kernel = decode_kernel<kElement, kWidth, kTiles>;
  launch.warps = kMost;
  launch.places = std::min(places<kElement, kWidth>(group, kMost), kMost * kMaxDepth);
  launch.shared_bytes = kSharedBytes;
  return launch;
}

template <KvElement kElement>
Result<DecodeLaunch> decode_launch(int width, int group) {
  if (width == 64) {
    return group <= 8 ? decode_launch<kElement, 64, 1>(group)
                      : decode_launch<kElement, 64, 2>(group);
  }
  return group <= 8 ? decode_launch<kElement, 128, 1>(group)
                    : decode_launch<kElement, 128, 2>(group);
}

Result<DecodeLaunch> decode_launch(KvElement element, int width, int group) {
  switch (element) {
    case KvElement::kF16: return decode_launch<KvElement::kF16>(width, group);
    case KvElement::kInt8: return decode_launch<KvElement::kInt8>(width, group);
    case KvElement::kInt4: break;
  }
  return decode_launch<KvElement::kInt4>(width, group);
}

int partial_float4s(int width, int group) {
  if (width == 64) return group <= 8 ? partial_size<64, 1>(group) : partial_size<64, 2>(group);
  return group <= 8 ? partial_size<128, 1>(group) : partial_size<128, 2>(group);
}

// The counters come first, then the partial results.
std::size_t counter_bytes(int kv_heads, int slots) {
  const std::size_t bytes =
      sizeof(unsigned) * static_cast<std::size_t>(kv_heads) * static_cast<std::size_t>(slots);
  return (bytes + 255) / 256 * 256;
}

}  // namespace

std::size_t decode_attention_workspace_bytes(const KvPageShape& shape, int heads, int slots,
                                             int max_units) {
  const auto partials =
      static_cast<std::size_t>(max_units) * static_cast<std::size_t>(shape.kv_heads) *
      static_cast<std::size_t>(partial_float4s(shape.width, heads / shape.kv_heads));
  return counter_bytes(shape.kv_heads, slots) + partials * sizeof(float4);
}

Status decode_attention(const DecodeAttention& arguments, CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  const KvPageShape& shape = tensors.shape;
  LIQUIDGEMM_RETURN_IF_ERROR(can_attend(shape, tensors.heads, tensors.head_dim));
  if (arguments.max_units == 0) return ok_status();
  const int group = tensors.heads / shape.kv_heads;
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DecodeLaunch launch,
                              decode_launch(shape.element, shape.width, group));
  DecodeKernelArguments kernel{};
  kernel.q = static_cast<const std::uint8_t*>(tensors.q);
  kernel.pages = tensors.pages + kv_head_page_offset(shape, tensors.layer, 0);
  kernel.page_bytes = kv_page_bytes(shape);
  kernel.block_tables = tensors.block_tables;
  kernel.ld_block_table = tensors.ld_block_table;
  kernel.out = tensors.out;
  kernel.ld_out = tensors.ld_out;
  kernel.lengths = arguments.lengths;
  kernel.rows = arguments.rows;
  kernel.units = arguments.units;
  kernel.unit_count = arguments.unit_count;
  kernel.counters = static_cast<unsigned*>(arguments.workspace);
  kernel.partials = reinterpret_cast<float4*>(static_cast<std::uint8_t*>(arguments.workspace) +
                                              counter_bytes(shape.kv_heads, arguments.slots));
  kernel.kv_heads = shape.kv_heads;
  kernel.group = group;
  kernel.head_dim = tensors.head_dim;
  kernel.places = launch.places;
  kernel.softmax_scale = tensors.softmax_scale;
  kernel.aligned = tensors.head_dim % 4 == 0 && tensors.ld_out % 4 == 0 &&
                   reinterpret_cast<std::uintptr_t>(tensors.out) % 16 == 0;
  launch.kernel<<<static_cast<unsigned>(arguments.multiprocessors),
                  static_cast<unsigned>(launch.warps * 32),
                  static_cast<std::size_t>(launch.shared_bytes), stream>>>(kernel);
  return launch_status("decode attention");
}

}  // namespace liquidgemm::cuda
