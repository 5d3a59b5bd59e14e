// The arithmetic of decode attention (decode_kernel.cuh): one warp's share of what a team computes.
//
// In a round each warp scores the tokens of its own page and turns them into probabilities; then
// each computes its part of the dimensions of the outputs, over all pages of the round in order.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_tile.cuh"
#include "ops/cuda/decode_exchange.cuh"
#include "ops/cuda/decode_loader.cuh"
#include "ops/cuda/decode_partial.h"

namespace liquidgemm::cuda {

template <KvElement kElement, int kWidth, int kTiles, int kColumns, int kTeam>
class DecodeRows {
 public:
  static constexpr bool kZeros = !kv_is_float(kElement);
  using Exchange = DecodeExchange<kElement, kTiles, kColumns, kTeam>;
  using Values = ValueChunk<kElement, kWidth, kTeam>;
  static constexpr int kOutputTiles = kWidth / 16 / kTeam;  // of this warp
  static constexpr int kDimensions = 2 * kOutputTiles;      // of a lane, next to each other
  static_assert(kDimensions % 4 == 0);
  // Whether a sequence can be one unit.
  static constexpr bool kKeeps = decode_keeps(kTiles, kColumns, kTeam);
  // Whether that lies in the outputs of the odd columns: where they have no row, their
  // probabilities are zero, and products with numbers that are finite leave them as they are.
  static constexpr bool kParks = kKeeps && kColumns == 1 && !kv_is_float(kElement);

  __device__ __forceinline__ DecodeRows(const DecodeKernelArguments& arguments,
                                        std::uint8_t* exchanges, int team, int member, int lane)
      : arguments_(arguments),
        exchange_(exchanges, team, member, lane),
        member_(member),
        g_(lane / 4),
        t_(lane % 4),
        part_(Values::part_of(lane / 4, member)),
        o_{} {}

  // What each has told is there for all.
  __device__ __forceinline__ void barrier() const { exchange_.barrier(); }

  // A split begins. The queries, in shared memory; rows past the group repeat its last.
  __device__ __forceinline__ void start(const std::uint8_t* queries) {
    state_.start();
#pragma unroll
    for (int j = 0; j < kOutputTiles; ++j) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 4; r += kParks ? 2 : 1) o_[j][n][r] = 0.0f;
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int head = kColumns == 1 ? g_ / 2 : 8 * n + g_;
      const std::uint8_t* row = queries + min(head, arguments_.group - 1) * (kWidth * 2);
      load_query<kElement, kWidth>(row, t_, [&](int s) { return q_[s][n]; });
    }
    if constexpr (kZeros) sum_queries<kElement, kWidth, kTiles>(q_, q_sum_);
  }

  // Scores of the warp's page, whose K half is at `keys`; the first `visible` tokens count.
  __device__ __forceinline__ void score(const std::uint8_t* keys, int visible) {
    page_dots<kElement, kWidth, kTiles>(keys, g_, t_, q_, q_sum_, scores_);
    int rows[kTiles][2];
    fill(rows, visible);
    const auto* parameters =
        reinterpret_cast<const std::uint32_t*>(keys + key_parameter_offset(kElement, kWidth, 0));
    if (visible < kKvPageTokens) {
      scale_dots<kElement, kTiles, true, kColumns>(scores_, parameters, g_,
                                                   arguments_.softmax_scale, q_sum_, rows);
    } else {
      scale_dots<kElement, kTiles, false, kColumns>(scores_, parameters, g_,
                                                    arguments_.softmax_scale, q_sum_, rows);
    }
  }

  // Tells the team the page's largest scores and the class of its values, whose V half is at
  // `values`. A page behind the end has none.
  __device__ __forceinline__ void publish(const std::uint8_t* values, int visible) {
    PerRow<kTiles> largest;
    std::uint32_t bits = 0;
    if (visible > 0) {
      largest_scores<kTiles, kColumns>(scores_, largest);
      if constexpr (kv_has_scales(kElement)) {
        parameters_.load(value_parameters(values), g_);
        bits = parameters_.template largest_scale<true>(g_, visible);
        bits = __reduce_max_sync(kWholeWarp, bits);
      }
    } else {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) largest[n][0] = largest[n][1] = -__int_as_float(0x7F800000);
    }
    exchange_.tell_largest(largest, bits);
  }

  // After all have published: moves m and E through the pages of the round, and gives the team the
  // probabilities of the warp's own page.
  __device__ __forceinline__ void weigh(int visible) {
    const int page_of_lane = g_ % kTeam;
    PerRow<kTiles> m_of_page;
    std::uint32_t exponent_of_page = 0;
    float power = 1.0f;
    if constexpr (kv_has_scales(kElement)) {
      std::uint32_t e = state_.exponent[0];
#pragma unroll
      for (int j = 0; j < kTeam; ++j) {
        const std::uint32_t next = max(e, exchange_.class_of(j));
        if (j == page_of_lane) power = power_between(e, next);
        if (j == member_) exponent_of_page = next;
        e = next;
      }
      state_.exponent[0] = e;
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float m = state_.m[n][c];
        float apart = 0.0f;
#pragma unroll
        for (int j = 0; j < kTeam; ++j) {
          const float next = fmaxf(m, exchange_.largest(j, n, c));
          if (j == page_of_lane) apart = m - next;
          if (j == member_) m_of_page[n][c] = next;
          m = next;
        }
        state_.m[n][c] = m;
        factor_[n][c] = exp_of_difference(apart);
        factor_of_o_[n][c] = factor_[n][c] * power;
      }
    }
    if (visible == 0) return;
    if (visible < kKvPageTokens) {
      weigh_masked<true>(m_of_page, exponent_of_page, visible);
    } else {
      weigh_masked<false>(m_of_page, exponent_of_page, visible);
    }
  }

  // After all have weighed: the sums of the round's first `pages` pages.
  __device__ __forceinline__ void add_sums(int pages) {
#pragma unroll
    for (int j = 0; j < kTeam; ++j) {
      if (j >= pages) break;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const float a = of_page(factor_[n][c], j);
          state_.l[n][c] = state_.l[n][c] * a + exchange_.p_sum(j, n, c);
          if constexpr (kZeros) {
            state_.z[n][c] = state_.z[n][c] * a + exchange_.z_sum(j, n, c);
          }
        }
      }
    }
  }

  // Adds this warp's part of the values of the round's page j, whose V half is at `values`.
  __device__ __forceinline__ void add(const std::uint8_t* values, int j, int visible) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const float factor = of_page(factor_of_o_[n][c], j);
#pragma unroll
        for (int tile = 0; tile < kOutputTiles; ++tile) {
          o_[tile][n][c] = o_[tile][n][c] * factor;
          o_[tile][n][2 + c] = o_[tile][n][2 + c] * factor;
        }
      }
    }
    PageProbabilities<kTiles> probabilities;
    exchange_.read_probabilities(j, probabilities);
    if (kv_is_float(kElement) && visible < kKvPageTokens) {
      add_values<true>(values, visible, probabilities);
    } else {
      add_values<false>(values, visible, probabilities);
    }
  }

  // Ends the split: keeps its result for the next one, leaves it for attention_rows.cu, or writes
  // the row.
  __device__ __forceinline__ void finish(const DecodeRecord& record) {
    end();
    if constexpr (kKeeps) {
      if (record.end & DecodeRecord::kContinues) combine_with_kept();
      if (record.end & DecodeRecord::kGoesOn) return keep();
    }
    if (record.end & DecodeRecord::kLeaves) {
      const std::int64_t size = decode_partial_size(kWidth, arguments_.group);
      leave(arguments_.partials +
            (std::int64_t{record.to} * arguments_.kv_heads + record.head) * size);
    } else {
      write(record);
    }
  }

 private:
  static __device__ __forceinline__ void fill(int (&rows)[kTiles][2], int visible) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) rows[n][0] = rows[n][1] = visible;
  }
  static __device__ __forceinline__ const std::uint32_t* value_parameters(
      const std::uint8_t* values) {
    return reinterpret_cast<const std::uint32_t*>(values +
                                                  key_parameter_offset(kElement, kWidth, 0));
  }
  // Of a number that lanes g hold for page g of the round.
  __device__ __forceinline__ float of_page(float value, int j) const {
    return kTeam == 1 ? value : __shfl_sync(kWholeWarp, value, 4 * j + t_);
  }
  // The place in its group of row c of tile n.
  __device__ __forceinline__ int head_of(int n, int c) const {
    return kColumns == 1 ? t_ : 8 * n + 2 * t_ + c;
  }

  template <bool kMasked>
  __device__ __forceinline__ void weigh_masked(const PerRow<kTiles>& m, std::uint32_t exponent,
                                               int visible) {
    int rows[kTiles][2];
    fill(rows, visible);
    Exponents<kTiles> exponents;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) exponents[n][0] = exponents[n][1] = exponent;
    PageProbabilities<kTiles> probabilities;
    PerRow<kTiles> p_sum, z_sum;
    weigh_tokens<kElement, kTiles, kMasked, kColumns>(scores_, parameters_, g_, rows, m, exponents,
                                                      p_sum, z_sum, probabilities);
    exchange_.tell_weights(probabilities, p_sum, z_sum);
  }

  template <bool kMasked>
  __device__ __forceinline__ void add_values(const std::uint8_t* values, int visible,
                                             const PageProbabilities<kTiles>& probabilities) {
    const bool upper = part_ % 2 != 0;
#pragma unroll
    for (int c = 0; c < Values::kChunks; ++c) {
      const std::uint8_t* even = values + Values::offset(g_, t_, 0, c, part_);
      const std::uint8_t* odd = values + Values::offset(g_, t_, 1, c, part_);
#pragma unroll
      for (int u = 0; u < kPageTiles; ++u) {
        Values chunk;
        chunk.load(even + u * 16 * Values::kRowBytes, odd + u * 16 * Values::kRowBytes);
        if constexpr (kMasked) chunk.clear_from(visible, 16 * u + 2 * t_);
#pragma unroll
        for (int tile = 0; tile < Values::kTiles; ++tile) {
          std::uint32_t a[4];
          chunk.fragment(tile, a, upper);
#pragma unroll
          for (int n = 0; n < kTiles; ++n) {
            multiply_add<kElement>(o_[c * Values::kTiles + tile][n], a, probabilities[u][n]);
          }
        }
      }
    }
  }

  // l and o in true units.
  __device__ __forceinline__ void end() {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        state_.l[n][c] = sum_over_tokens(state_.l[n][c]);
        if constexpr (kv_is_float(kElement)) continue;
        const float unit = kv_has_scales(kElement) ? power_of(state_.exponent[0]) : 1.0f;
        const float z = sum_over_tokens(state_.z[n][c]);
#pragma unroll
        for (int tile = 0; tile < kOutputTiles; ++tile) {
#pragma unroll
          for (int r = c; r < 4; r += 2) {
            o_[tile][n][r] = o_[tile][n][r] * value_unit<kElement>(tile) * unit + z;
          }
        }
      }
    }
  }

  // Where output r of a tile is kept, of the splits before.
  __device__ __forceinline__ float& kept_output(int tile, int r) {
    if constexpr (kParks) return o_[tile][0][r + 1];
    return kept_o_[tile][r];
  }
  __device__ __forceinline__ void keep() {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      kept_m_[c] = state_.m[0][c];
      kept_l_[c] = state_.l[0][c];
#pragma unroll
      for (int tile = 0; tile < kOutputTiles; ++tile) {
        kept_output(tile, c) = o_[tile][0][c];
        kept_output(tile, 2 + c) = o_[tile][0][2 + c];
      }
    }
  }
  // As attention_rows.cu combines: what is kept is of the splits before.
  __device__ __forceinline__ void combine_with_kept() {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float& m = state_.m[0][c];
      float& l = state_.l[0][c];
      const float largest = fmaxf(kept_m_[c], m);
      const float x = exp_of_difference(kept_m_[c] - largest);
      const float y = exp_of_difference(m - largest);
      m = largest;
      l = kept_l_[c] * x + l * y;
#pragma unroll
      for (int tile = 0; tile < kOutputTiles; ++tile) {
        float(&o)[4] = o_[tile][0];
        o[c] = kept_output(tile, c) * x + o[c] * y;
        o[2 + c] = kept_output(tile, 2 + c) * x + o[2 + c] * y;
      }
    }
  }

  __device__ __forceinline__ int first_dimension() const {
    return g_ * (kWidth / 8) + part_ * kDimensions;
  }
  // Dimensions 4 i .. 4 i + 3 of the lane's.
  __device__ __forceinline__ float4 four_outputs(int i, int n, int c) const {
    return make_float4(o_[2 * i][n][c], o_[2 * i][n][2 + c], o_[2 * i + 1][n][c],
                       o_[2 * i + 1][n][2 + c]);
  }

  // Calls do(n, c, query head of the group) for each row of this lane.
  template <typename Do>
  __device__ __forceinline__ void for_each_row(const Do& function) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int head = head_of(n, c);
        if (head < arguments_.group) function(n, c, head);
      }
    }
  }

  __device__ __forceinline__ void leave(float4* partial) const {
    for_each_row([&](int n, int c, int head) {
#pragma unroll
      for (int i = 0; i < kDimensions / 4; ++i) {
        const int place = decode_partial_place(kWidth, first_dimension() / 4 + i);
        __stcg(partial + head * (kWidth / 4) + place, four_outputs(i, n, c));
      }
      if (member_ == 0 && g_ == 0) {
        auto* sums = reinterpret_cast<float2*>(partial + arguments_.group * (kWidth / 4));
        __stcg(sums + head, make_float2(state_.m[n][c], state_.l[n][c]));
      }
    });
  }

  __device__ __forceinline__ void write(const DecodeRecord& record) const {
    for_each_row([&](int n, int c, int head) {
#pragma unroll
      for (int i = 0; i < kDimensions / 4; ++i) {
        arguments_.output.write<kElement == KvElement::kInt8Static>(
            record.to, record.head, record.head * arguments_.group + head,
            first_dimension() + 4 * i, four_outputs(i, n, c), state_.l[n][c]);
      }
    });
  }

  const DecodeKernelArguments& arguments_;
  Exchange exchange_;
  const int member_, g_, t_, part_;
  Queries<kWidth, kTiles> q_;
  PerRow<kTiles> q_sum_;
  SplitState<kTiles, true> state_;
  PageScores<kTiles> scores_;
  ValueParameters<kElement> parameters_;
  // Lanes g: of the page g of the round, a of the canonical sequence, and what o is to be
  // multiplied with before the page.
  PerRow<kTiles> factor_, factor_of_o_;
  float o_[kOutputTiles][kTiles][4];
  // Of the splits before, of a sequence that is one unit.
  float kept_m_[kKeeps ? kColumns : 1], kept_l_[kKeeps ? kColumns : 1];
  float kept_o_[kKeeps && !kParks ? kOutputTiles : 1][4];
};

}  // namespace liquidgemm::cuda
