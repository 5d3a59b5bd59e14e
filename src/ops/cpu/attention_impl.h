// Attention of several query vectors over one split of the context, over the sixteen-lane vector of
// the including file (see kernels_impl.h).
//
// Keys, then values, are converted to float a tile of tokens at a time; the tile stays in the first
// level cache while every query passes over it. What a query computes, and in which order, is the
// contract's sequence for it alone.
#pragma once

#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

// A tile's rows are head_dim filled up with zeros to whole vectors. The tile takes a quarter, half
// or all of the tokens of a page, so that it never lies across two.
constexpr std::int64_t kTileFloats = 16 * kMaxHeadDim;

LIQUIDGEMM_INLINE std::int64_t tile_tokens(std::int64_t row_floats) {
  return row_floats <= 64 ? 64 : row_floats <= 128 ? 32 : 16;
}

// `tokens` rows from page[slot]; the rest of the last group of 16 rows becomes zeros, so that the
// scores of tokens that do not exist are computed (and ignored) without reading their slots.
void load_tile(const float* f32, const std::uint16_t* f16, const std::int8_t* int8,
               std::int64_t slot, std::int64_t tokens, std::int64_t head_dim,
               std::int64_t row_floats, float* tile) {
  const std::int64_t tail = head_dim % 16;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t at = (slot + t) * head_dim;
    float* row = tile + t * row_floats;
    std::int64_t d = 0;
    if (f32 != nullptr) {
      for (; d + 16 <= head_dim; d += 16) store(row + d, load(f32 + at + d));
      if (tail > 0) store(row + d, load_partial(f32 + at + d, tail));
    } else if (f16 != nullptr) {
      for (; d + 16 <= head_dim; d += 16) store(row + d, load_f16(f16 + at + d));
      if (tail > 0) {
        std::uint16_t last[16] = {};
        for (std::int64_t i = 0; i < tail; ++i) last[i] = f16[at + d + i];
        store(row + d, load_f16(last));
      }
    } else {
      for (; d + 16 <= head_dim; d += 16) store(row + d, load_int8(int8 + at + d));
      if (tail > 0) {
        std::int8_t last[16] = {};
        for (std::int64_t i = 0; i < tail; ++i) last[i] = int8[at + d + i];
        store(row + d, load_int8(last));
      }
    }
  }
  for (float* p = tile + tokens * row_floats; p < tile + (tokens + 15) / 16 * 16 * row_floats;
       p += 16) {
    store(p, zero());
  }
}

// out[query][d .. d + 16 * kVectors) += weight * value for tokens first .. last-1 of the tile, in
// ascending order. The sums stay in registers: kQueries share each value that is loaded.
template <int kQueries, int kVectors>
LIQUIDGEMM_INLINE void add_values(const float* weights, const float* tile, std::int64_t row_floats,
                                  std::int64_t first, std::int64_t last, const AttentionPart* parts,
                                  std::int64_t d, std::int64_t lanes_left) {
  Vec sum[kQueries][kVectors];
  const bool partial = lanes_left < 16 * kVectors;  // only with one vector
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float* out = parts[i].out + d + v * 16;
      sum[i][v] = partial ? load_partial(out, lanes_left) : load(out);
    }
  }
  for (std::int64_t t = first; t < last; ++t) {
    const float* row = tile + t * row_floats + d;
    Vec value[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) value[v] = load(row + v * 16);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const Vec weight = set1(weights[i * numerics::kAttentionSplit + t]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(weight, value[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* out = parts[i].out + d + v * 16;
      if (partial) {
        store_partial(out, sum[i][v], lanes_left);
      } else {
        store(out, sum[i][v]);
      }
    }
  }
}

template <int kQueries>
void add_tile(const float* weights, const float* tile, std::int64_t row_floats, std::int64_t first,
              std::int64_t last, const AttentionPart* parts, std::int64_t head_dim) {
  constexpr int kWide = value_vectors(kQueries);
  if (first >= last) return;
  std::int64_t d = 0;
  for (; d + 16 * kWide <= head_dim; d += 16 * kWide) {
    add_values<kQueries, kWide>(weights, tile, row_floats, first, last, parts, d, 16 * kWide);
  }
  if constexpr (kWide > 4) {
    for (; d + 64 <= head_dim; d += 64) {
      add_values<kQueries, 4>(weights, tile, row_floats, first, last, parts, d, 64);
    }
  }
  for (; d < head_dim; d += 16) {
    const std::int64_t left = head_dim - d < 16 ? head_dim - d : 16;
    add_values<kQueries, 1>(weights, tile, row_floats, first, last, parts, d, left);
  }
}

// Scores become weights: max, exp, their sum, then the values' scales.
void softmax_part(float* scores, std::int64_t tokens, const KvPageView* pages,
                  AttentionPart* part) {
  const Vec least = set1(-__builtin_inff());
  Vec most = least;
  for (std::int64_t t = 0; t < tokens; t += 16) {
    const std::int64_t count = tokens - t < 16 ? tokens - t : 16;
    most = greater(first_lanes(load(scores + t), least, count), most);
  }
  float lanes16[16];
  store(lanes16, most);
  float max = lanes16[0];
  for (int i = 1; i < 16; ++i) max = lanes16[i] > max ? lanes16[i] : max;

  const Vec shift = set1(max);
  Vec sum = zero();
  for (std::int64_t t = 0; t < tokens; t += 16) {
    const std::int64_t count = tokens - t < 16 ? tokens - t : 16;
    Vec p = first_lanes(exp(sub(load(scores + t), shift)), zero(), count);
    sum = add(sum, p);
    const KvPageView& page = pages[t / kPageTokens];
    if (page.v_scale != nullptr) {
      p = mul(p, load_partial(page.v_scale + t % kPageTokens, count));
    }
    store(scores + t, p);
  }
  store(lanes16, sum);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes16[i] = lanes16[i] + lanes16[i + half];
  }
  part->max = max;
  part->sum = lanes16[0];
}

void attention_rows(const float* q, std::int64_t rows, std::int64_t row_stride, std::int64_t group,
                    std::int64_t visible, const KvPageView* pages, std::int64_t tokens,
                    std::int64_t head_dim, float softmax_scale, AttentionPart* parts,
                    float* scratch) {
  constexpr std::int64_t kStride = numerics::kAttentionSplit;
  alignas(64) float tile[kTileFloats];
  const std::int64_t queries = rows * group;
  const std::int64_t row_floats = (head_dim + 15) / 16 * 16;
  const std::int64_t step = tile_tokens(row_floats);
  const auto seen = [&](std::int64_t query) {
    const std::int64_t count = visible + query / group;
    return count < tokens ? count : tokens;
  };

  const Vec factor = set1(softmax_scale);
  for (std::int64_t t0 = 0; t0 < tokens; t0 += step) {
    const std::int64_t in_tile = tokens - t0 < step ? tokens - t0 : step;
    const KvPageView& page = pages[t0 / kPageTokens];
    const std::int64_t slot = t0 % kPageTokens;
    load_tile(page.k_f32, page.k_f16, page.k_int8, slot, in_tile, head_dim, row_floats, tile);
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t end = seen(row * group) - t0 < in_tile ? seen(row * group) - t0 : in_tile;
      for (std::int64_t g = 0; g < group; ++g) {
        const float* query = q + row * row_stride + g * head_dim;
        float* scores = scratch + (row * group + g) * kStride + t0;
        for (std::int64_t t = 0; t < end; t += 16) {
          Vec score =
              dot_rows(query, tile + t * row_floats, row_floats, head_dim / 16, head_dim % 16);
          if (page.k_scale != nullptr) {
            const std::int64_t count = in_tile - t < 16 ? in_tile - t : 16;
            score = mul(score, load_partial(page.k_scale + slot + t, count));
          }
          store(scores + t, mul(score, factor));
        }
      }
    }
  }

  for (std::int64_t i = 0; i < queries; ++i) {
    softmax_part(scratch + i * kStride, seen(i), pages, &parts[i]);
    for (std::int64_t d = 0; d < head_dim; ++d) parts[i].out[d] = 0.0f;
  }

  constexpr std::int64_t kTogether = 4;
  for (std::int64_t t0 = 0; t0 < tokens; t0 += step) {
    const std::int64_t in_tile = tokens - t0 < step ? tokens - t0 : step;
    const KvPageView& page = pages[t0 / kPageTokens];
    load_tile(page.v_f32, page.v_f16, page.v_int8, t0 % kPageTokens, in_tile, head_dim, row_floats,
              tile);
    const auto end_of = [&](std::int64_t query) {
      const std::int64_t left = seen(query) - t0;
      return left < 0 ? 0 : left < in_tile ? left : in_tile;
    };
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < queries; i += count) {
      count = queries - i < kTogether ? queries - i : kTogether;
      const float* weights = scratch + i * kStride + t0;
      // The tokens that the first of these queries sees, all see; a token that a query does not
      // see may hold a NaN, so it is left out rather than weighted with 0.
      const std::int64_t common = end_of(i);
      switch (count) {
        case 1: add_tile<1>(weights, tile, row_floats, 0, common, parts + i, head_dim); break;
        case 2: add_tile<2>(weights, tile, row_floats, 0, common, parts + i, head_dim); break;
        case 3: add_tile<3>(weights, tile, row_floats, 0, common, parts + i, head_dim); break;
        default: add_tile<4>(weights, tile, row_floats, 0, common, parts + i, head_dim); break;
      }
      for (std::int64_t j = 0; j < count; ++j) {
        add_tile<1>(weights + j * kStride, tile, row_floats, common, end_of(i + j), parts + i + j,
                    head_dim);
      }
    }
  }
}

void attention_split(const float* q, std::int64_t queries, const KvPageView* pages,
                     std::int64_t tokens, std::int64_t head_dim, float softmax_scale,
                     AttentionPart* parts, float* scratch) {
  attention_rows(q, 1, 0, queries, tokens, pages, tokens, head_dim, softmax_scale, parts, scratch);
}

void attention_combine(AttentionPart* total, const AttentionPart* part, std::int64_t head_dim) {
  const float max = part->max > total->max ? part->max : total->max;
  const float x = numerics::exp_contract(total->max - max);
  const float y = numerics::exp_contract(part->max - max);
  total->sum = total->sum * x + part->sum * y;
  total->max = max;
  const Vec vx = set1(x), vy = set1(y);
  float* out = total->out;
  std::int64_t d = 0;
  for (; d + 16 <= head_dim; d += 16) {
    store(out + d, add(mul(load(out + d), vx), mul(load(part->out + d), vy)));
  }
  for (; d < head_dim; ++d) out[d] = out[d] * x + part->out[d] * y;
}

void attention_finish(const AttentionPart* total, float* out, std::int64_t head_dim) {
  const Vec sum = set1(total->sum);
  std::int64_t d = 0;
  for (; d + 16 <= head_dim; d += 16) store(out + d, div(load(total->out + d), sum));
  for (; d < head_dim; ++d) out[d] = total->out[d] / total->sum;
}

}  // namespace
}  // namespace liquidgemm
