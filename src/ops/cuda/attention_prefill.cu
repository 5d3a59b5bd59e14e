// Prefill attention: any number of rows of each sequence.
//
// A block computes one tile and one KV head. Its rows are the tile's tokens times the heads of the
// group, token after token; each warp has sixteen of them. Page after page, from token 0 on, the
// block
//
//   loads    the raw head page by one bulk copy, two pages ahead;
//   unpacks  it into fragments of the tensor cores, once for all warps;
//   adds     it to the rows of every warp that sees it, by the sequence of attention_tile.cuh.
//
// There are two raw pages and two of fragments: while some warps add page p, others unpack page
// p + 1, and one barrier a page separates the rounds.
#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/ptx/copy.h"
#include "ops/cuda/attention_arguments.h"
#include "ops/cuda/attention_prefill_page.cuh"
#include "ops/cuda/attention_tile.cuh"

namespace liquidgemm::cuda {
namespace {

using namespace prefill;  // NOLINT

struct PrefillKernelArguments {
  const std::uint8_t* q;
  const std::uint8_t* pages;  // the layer's part of page 0
  std::int64_t page_bytes;
  const std::int32_t* block_tables;
  std::int64_t ld_block_table;
  AttentionOutput output;
  const AttentionTile* tiles;
  int kv_heads;
  int group;
  float softmax_scale;
};

// ---- Arithmetic --------------------------------------------------------------------------------

// Sixteen rows of a warp.
template <KvElement kElement, int kWidth>
class WarpRows {
 public:
  using Layout = SharedLayout<kElement, kWidth>;
  static constexpr int kSteps = Layout::kSteps;

  // `results`: the warp's own part of shared memory.
  __device__ __forceinline__ WarpRows(const PrefillKernelArguments& arguments,
                                      const AttentionTile& tile, int head, int warp, int lane,
                                      std::uint8_t* results)
      : arguments_(arguments),
        tile_(tile),
        head_(head),
        first_(warp * kWarpRows),
        last_row_(tile.rows * arguments.group - 1),
        lane_(lane),
        g_(lane / 4),
        t_(lane % 4),
        results_(reinterpret_cast<float2*>(results) + lane) {
    first_position_ = position(first_);
    last_position_ = position(first_ + kWarpRows - 1);
    start_split();
  }

  __device__ __forceinline__ bool any() const { return first_ <= last_row_; }
  __device__ __forceinline__ int last_position() const { return last_position_; }

  // Rows past the tile's repeat its last.
  __device__ __forceinline__ void load_queries() {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      const int row = min(first_ + 8 * n + g_, last_row_);
      const int token = row / arguments_.group;
      const std::int64_t vector =
          ((std::int64_t{tile_.first_row} + token) * arguments_.kv_heads + head_) *
              arguments_.group +
          row % arguments_.group;
      const std::uint8_t* from = arguments_.q + vector * (kWidth * 2);
      load_query<kElement, kWidth>(from, t_, [&](int s) { return q_[s][n]; });
    }
    if constexpr (!kv_is_float(kElement)) {
      sum_queries<kElement, kWidth, kRowTiles>(q_, q_sum_);
    }
  }

  // Adds the page of the tokens from `begin` on, which one row at least sees. For a row that sees
  // none of them every step is times 1 or plus 0, or, where its splits ended before, of no
  // consequence.
  __device__ __forceinline__ void add(const std::uint8_t* fragments, int begin, bool not_finite) {
    if (first_position_ < begin + kKvPageTokens - 1) {
      add_masked<true>(fragments, begin, not_finite);
    } else {
      add_masked<false>(fragments, begin, false);
    }
    const int next = begin + kKvPageTokens;
    if (next > last_position_) {
      end_of_split<true>(begin / numerics::kAttentionSplit);
    } else if (next % numerics::kAttentionSplit == 0) {
      end_of_split<false>(begin / numerics::kAttentionSplit);
    }
  }

 private:
  using State = SplitState<kRowTiles, false>;

  // A lane's row c of tile n.
  __device__ __forceinline__ int row_of(int n, int c) const { return first_ + 8 * n + 2 * t_ + c; }
  __device__ __forceinline__ int position(int row) const {
    return tile_.first_position + min(row, last_row_) / arguments_.group;
  }

  __device__ __forceinline__ void start_split() {
    state_.start();
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
#pragma unroll
      for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) o_[j][n][r] = 0.0f;
      }
    }
  }

  static __device__ __forceinline__ void load_fragment(const std::uint8_t* from, int index,
                                                       std::uint32_t (&a)[4]) {
    detail::load_words(from + index * kFragmentBytes, a);
  }

  template <bool kMasked>
  __device__ __forceinline__ void add_masked(const std::uint8_t* fragments, int begin,
                                             bool not_finite) {
    const std::uint8_t* own = fragments + lane_ * 16;
    PageScores<kRowTiles> scores;
    dots(own, scores);
    int visible[kRowTiles][2];
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        visible[n][c] = kMasked ? position(row_of(n, c)) + 1 - begin : kKvPageTokens;
      }
    }
    scale_dots<kElement, kRowTiles, kMasked>(
        scores, reinterpret_cast<const std::uint32_t*>(fragments + Layout::kKeyParameters), g_,
        arguments_.softmax_scale, q_sum_, visible);
    PerRow<kRowTiles> factor;
    PageProbabilities<kRowTiles> probabilities;
    page_softmax<kElement, kRowTiles, false, kMasked>(
        scores, reinterpret_cast<const std::uint32_t*>(fragments + Layout::kValueParameters), g_,
        visible, state_, factor, probabilities);
    rescale<kWidth, kRowTiles>(o_, factor);
    const std::uint8_t* values = own + Layout::kValues;
    if (kv_is_float(kElement) && kMasked && not_finite) {
      add_values_row_by_row(values, begin, probabilities);
    } else {
      add_values(values, probabilities);
    }
  }

  // The products of eight chains take turns: none waits for its own last one.
  __device__ __forceinline__ void dots(const std::uint8_t* keys,
                                       PageScores<kRowTiles>& scores) const {
    constexpr int kChains = kDotChains<kElement>;
    constexpr int kTogether = kPageTiles / kChains;
#pragma unroll
    for (int first = 0; first < kPageTiles; first += kTogether) {
      float chains[kTogether][kRowTiles][kChains][4];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n) start_dots<kElement>(q_sum_[n], chains[i][n]);
      }
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          std::uint32_t a[4];
          load_fragment(keys, (first + i) * kSteps + s, a);
#pragma unroll
          for (int n = 0; n < kRowTiles; ++n) {
            multiply_add<kElement>(chains[i][n][s % kChains], a, q_[s][n]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n) end_dots(chains[i][n], scores[first + i][n]);
      }
    }
  }

  __device__ __forceinline__ void add_values(const std::uint8_t* values,
                                             const PageProbabilities<kRowTiles>& probabilities) {
#pragma unroll
    for (int u = 0; u < kPageTiles; ++u) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        std::uint32_t a[4];
        load_fragment(values, u * kSteps + j, a);
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n)
          multiply_add<kElement>(o_[j][n], a, probabilities[u][n]);
      }
    }
  }

  // The same where the page has values that are not finite, of which rows before must see nothing:
  // 0 * NaN is NaN. For each row anew, with zeros for the tokens behind its position.
  __device__ __forceinline__ void add_values_row_by_row(
      const std::uint8_t* values, int begin, const PageProbabilities<kRowTiles>& probabilities) {
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      float result[kRowTiles][4];
      copy(o_[j], result);
#pragma unroll 1
      for (int row = 0; row < kWarpRows; ++row) {
        const int end = position(first_ + row) + 1 - begin;
        if (end <= 0) continue;
        float sum[kRowTiles][4];
        copy(o_[j], sum);
#pragma unroll
        for (int u = 0; u < kPageTiles; ++u) {
          std::uint32_t a[4];
          load_fragment(values, u * kSteps + j, a);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const int token = 16 * u + 8 * (k / 2) + 2 * t_;
            if (token >= end) a[k] = 0;
            if (token + 1 >= end) a[k] &= 0xFFFFu;
          }
#pragma unroll
          for (int n = 0; n < kRowTiles; ++n)
            multiply_add<kElement>(sum[n], a, probabilities[u][n]);
        }
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            if (8 * n + 2 * t_ + r % 2 == row) result[n][r] = sum[n][r];
          }
        }
      }
      copy(result, o_[j]);
    }
  }

  static __device__ __forceinline__ void copy(const float (&from)[kRowTiles][4],
                                              float (&to)[kRowTiles][4]) {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) to[n][r] = from[n][r];
    }
  }

  // Combines the split with those before. What they left is in shared memory:
  //
  //   o      [tile of dimensions][tile of rows][c][lane] two numbers
  //   m, l   [tile of rows][c][lane]
  template <bool kLast>
  __device__ __forceinline__ void end_of_split(int split) {
    end_split<kElement, kWidth, kRowTiles, false>(state_, o_);
    constexpr int kTile = kRowTiles * 2 * 32;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float2* results = results_ + (2 * n + c) * 32;
        PerRow<kRowTiles> m_all, l_all;
        Outputs<kWidth, kRowTiles> o_all;
        if (split == 0) {
          m_all[n][c] = state_.m[n][c];
          l_all[n][c] = state_.l[n][c];
#pragma unroll
          for (int j = 0; j < kSteps; ++j) {
            o_all[j][n][c] = o_[j][n][c];
            o_all[j][n][2 + c] = o_[j][n][2 + c];
          }
        } else {
          const float2 sums = results[kSteps * kTile];
          m_all[n][c] = sums.x;
          l_all[n][c] = sums.y;
#pragma unroll
          for (int j = 0; j < kSteps; ++j) {
            const float2 two = results[j * kTile];
            o_all[j][n][c] = two.x;
            o_all[j][n][2 + c] = two.y;
          }
          if (position(row_of(n, c)) >= split * numerics::kAttentionSplit) {
            combine_row<kWidth, kRowTiles>(n, c, m_all, l_all, o_all, state_.m[n][c],
                                           state_.l[n][c],
                                           [&](int j, int r) { return o_[j][n][r]; });
          }
        }
        if constexpr (kLast) {
          write(n, c, o_all, l_all);
        } else {
          results[kSteps * kTile] = make_float2(m_all[n][c], l_all[n][c]);
#pragma unroll
          for (int j = 0; j < kSteps; ++j) {
            results[j * kTile] = make_float2(o_all[j][n][c], o_all[j][n][2 + c]);
          }
        }
      }
    }
    if constexpr (!kLast) start_split();
  }

  __device__ __forceinline__ void write(int n, int c, const Outputs<kWidth, kRowTiles>& o_all,
                                        const PerRow<kRowTiles>& l_all) const {
    const int row = row_of(n, c);
    if (row > last_row_) return;
    const int head = head_ * arguments_.group + row % arguments_.group;
    const std::int64_t out_row = std::int64_t{tile_.first_row} + row / arguments_.group;
    write_row<kElement, kWidth, kRowTiles>(o_all, l_all, n, c, g_, arguments_.output, out_row,
                                           head_, head);
  }

  const PrefillKernelArguments& arguments_;
  const AttentionTile& tile_;
  const int head_, first_, last_row_, lane_, g_, t_;
  float2* const results_;
  int first_position_, last_position_;  // of the warp's rows
  Queries<kWidth, kRowTiles> q_;
  PerRow<kRowTiles> q_sum_;
  State state_;
  Outputs<kWidth, kRowTiles> o_;
};

// ---- The kernel --------------------------------------------------------------------------------

// Loads a tile's raw pages one after the other. The first warp calls it.
template <KvElement kElement, int kWidth>
class Loader {
 public:
  using Layout = SharedLayout<kElement, kWidth>;

  __device__ __forceinline__ Loader(const std::uint8_t* head_pages, std::int64_t page_bytes,
                                    const std::int32_t* table, int pages, std::uint32_t raw,
                                    std::uint32_t barriers)
      : head_pages_(head_pages),
        page_bytes_(page_bytes),
        table_(table),
        pages_(pages),
        raw_(raw),
        barriers_(barriers),
        id_(table[0]) {}

  __device__ __forceinline__ void load_next() {
    if (page_ >= pages_) return;
    const auto place = static_cast<std::uint32_t>(page_ % 2);
    const std::uint32_t barrier = barriers_ + place * 8;
    ptx::mbarrier_expect_bytes(barrier, Layout::kRawBytes);
    ptx::copy_bulk(raw_ + place * Layout::kRawBytes, head_pages_ + id_ * page_bytes_,
                   Layout::kRawBytes, barrier, ptx::kEvictNormal);
    ++page_;
    if (page_ < pages_) id_ = table_[page_];
  }

 private:
  const std::uint8_t* const head_pages_;
  const std::int64_t page_bytes_;
  const std::int32_t* const table_;
  const int pages_;
  const std::uint32_t raw_, barriers_;
  int page_ = 0;
  std::int32_t id_;  // of page_, read ahead
};

template <KvElement kElement, int kWidth>
__global__ __launch_bounds__((kWarps * 32), 1) void prefill_kernel(
    const __grid_constant__ PrefillKernelArguments arguments) {
  using Layout = SharedLayout<kElement, kWidth>;
  extern __shared__ __align__(128) std::uint8_t shared[];
  const int warp = __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x / 32), 0);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto block = static_cast<int>(blockIdx.x);
  const AttentionTile tile = arguments.tiles[block / arguments.kv_heads];
  const int head = block % arguments.kv_heads;
  const int tokens = tile.first_position + tile.rows;  // that the last row sees
  const int pages = (tokens + kKvPageTokens - 1) / kKvPageTokens;

  const std::uint32_t shared_begin = ptx::shared_address(shared);
  const std::uint32_t barriers = shared_begin + Layout::kBarriers;
  Loader<kElement, kWidth> loader(arguments.pages + std::int64_t{head} * Layout::kRawBytes,
                                  arguments.page_bytes,
                                  arguments.block_tables + tile.slot * arguments.ld_block_table,
                                  pages, shared_begin + Layout::kRaw, barriers);
  if (warp == 0) {
    ptx::mbarrier_init(barriers, 1);
    ptx::mbarrier_init(barriers + 8, 1);
    ptx::mbarrier_init_fence();
    loader.load_next();
    loader.load_next();
  }
  __syncthreads();

  // Unpacks a page. Whether its values may be added without a look at each row's position.
  const auto unpack_page = [&](int page) {
    const int place = page % 2;
    ptx::mbarrier_wait(barriers + static_cast<std::uint32_t>(place * 8),
                       static_cast<std::uint32_t>(page / 2 % 2));
    return unpack<kElement, kWidth>(shared + Layout::kRaw + place * Layout::kRawBytes,
                                    shared + place * Layout::kFragments, warp, lane,
                                    min(tokens - page * kKvPageTokens, kKvPageTokens));
  };
  // The barrier between two rounds. Codes are always finite.
  const auto end_round = [&](bool not_finite) {
    if constexpr (kv_is_float(kElement)) return __syncthreads_or(not_finite) != 0;
    __syncthreads();
    return false;
  };

  WarpRows<kElement, kWidth> rows(arguments, tile, head, warp, lane,
                                  shared + Layout::kResults + warp * Layout::kResultBytes);
  rows.load_queries();
  bool not_finite = end_round(unpack_page(0));
  if (warp == 0) loader.load_next();
#pragma unroll 1
  for (int page = 0; page < pages; ++page) {
    const bool next_not_finite = page + 1 < pages && unpack_page(page + 1);
    const int begin = page * kKvPageTokens;
    if (rows.any() && begin <= rows.last_position()) {
      rows.add(shared + page % 2 * Layout::kFragments, begin, not_finite);
    }
    not_finite = end_round(next_not_finite);
    if (warp == 0) loader.load_next();
  }
}

// ---- Launching ---------------------------------------------------------------------------------

using PrefillKernel = void (*)(PrefillKernelArguments);

struct PrefillLaunch {
  PrefillKernel kernel;
  int shared_bytes;
};

template <KvElement kElement, int kWidth>
Result<PrefillLaunch> prefill_launch() {
  constexpr int kBytes = SharedLayout<kElement, kWidth>::kBytes;
  // Once; remembers a failure too.
  static const Status opted_in =
      cuda_status(cudaFuncSetAttribute(prefill_kernel<kElement, kWidth>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
                  "cudaFuncSetAttribute(prefill attention)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  return PrefillLaunch{prefill_kernel<kElement, kWidth>, kBytes};
}

template <KvElement kElement>
Result<PrefillLaunch> prefill_launch(int width) {
  return width == 64 ? prefill_launch<kElement, 64>() : prefill_launch<kElement, 128>();
}

Result<PrefillLaunch> prefill_launch(KvElement element, int width) {
  switch (element) {
    case KvElement::kF16: return prefill_launch<KvElement::kF16>(width);
    case KvElement::kBf16: return prefill_launch<KvElement::kBf16>(width);
    case KvElement::kInt8: return prefill_launch<KvElement::kInt8>(width);
    case KvElement::kInt8Static: return prefill_launch<KvElement::kInt8Static>(width);
    case KvElement::kInt4: break;
  }
  return prefill_launch<KvElement::kInt4>(width);
}

}  // namespace

int prefill_tile_tokens(int heads, int kv_heads) { return kBlockRows / (heads / kv_heads); }

Status prefill_attention(const PrefillAttention& arguments, CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  const KvPageShape& shape = tensors.shape;
  LIQUIDGEMM_RETURN_IF_ERROR(check_tensors(tensors));
  if (arguments.tile_count == 0) return ok_status();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const PrefillLaunch launch,
                              prefill_launch(shape.element, shape.width));
  PrefillKernelArguments kernel{};
  set_tensors(tensors, kernel);
  kernel.tiles = arguments.tiles;
  launch.kernel<<<static_cast<unsigned>(arguments.tile_count * shape.kv_heads), kWarps * 32,
                  static_cast<std::size_t>(launch.shared_bytes), stream>>>(kernel);
  return launch_status("prefill attention");
}

}  // namespace liquidgemm::cuda
