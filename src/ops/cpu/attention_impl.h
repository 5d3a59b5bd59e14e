// Attention of several query vectors over one split of the context, over the sixteen-lane vector of
// the including file (see kernels_impl.h).
//
// Lanes are tokens while scores are made (a page holds keys dimension by dimension) and dimensions
// while values are added (a page holds values token by token), so neither needs a sum across lanes.
// Four queries share every key and value that is loaded; with more than eight, a block of a page is
// first converted to float and stays in the first level cache while all queries pass over it. What
// a query computes, and in which order, is the contract's sequence for it alone.
#pragma once

#include <type_traits>

#include "ops/cpu/ops.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kScoreStride = numerics::kAttentionSplit;  // from one query to the next
constexpr std::int64_t kTileDims = 64;
constexpr std::int64_t kTileFloats = kTileDims * kPageTokens;
constexpr std::int64_t kTogether = 4;       // queries that share a load
constexpr std::int64_t kDirectQueries = 8;  // as many convert what they load themselves
static_assert(kPageTokens == 64);           // four vectors of tokens

LIQUIDGEMM_INLINE Vec load16(const float* p) { return load(p); }
LIQUIDGEMM_INLINE Vec load16(const std::uint16_t* p) { return load_f16(p); }
LIQUIDGEMM_INLINE Vec load16(const Bf16* p) { return load_bf16(p); }
LIQUIDGEMM_INLINE Vec load16(const std::int8_t* p) { return load_int8(p); }

// Asks for `count` elements of the page that will be read next, if there is one, while this one is
// computed. The processor's own prefetching ends with a page of one head. Into L2: there are more
// requests under way there than L1 can have, and the loads would wait behind those.
template <typename T>
LIQUIDGEMM_INLINE void read_ahead(const T* next, std::int64_t first, std::int64_t count) {
  if (next == nullptr) return;
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t i = 0; i < count; i += kLine) __builtin_prefetch(next + first + i, 0, 2);
}

// The queries of one call; see ops.h, attention_rows.
struct Queries {
  const float* q;
  std::int64_t row_stride, group, head_dim, visible, tokens, count;

  // How many tokens a row sees, and how many of the page that starts at token t0.
  std::int64_t seen(std::int64_t row) const {
    return visible + row < tokens ? visible + row : tokens;
  }
  std::int64_t seen_of_page(std::int64_t row, std::int64_t t0) const {
    const std::int64_t left = seen(row) - t0;
    return left < 0 ? 0 : left < kPageTokens ? left : kPageTokens;
  }
};

// Walks over them in order, without a division for each.
struct Cursor {
  std::int64_t row = 0, head = 0;

  void advance(const Queries& all) {
    if (++head == all.group) {
      head = 0;
      ++row;
    }
  }
};

// scores[i][0 .. 16 * kVectors) (+)= the products of `dims` dimensions, ascending. `keys` and q are
// at the first of them; `first` starts the sums at 0. `next`: the page of keys or values that
// follows, or null.
template <int kQueries, int kVectors, typename T>
LIQUIDGEMM_INLINE void add_products(const float* const* q, const T* keys, const T* next,
                                    std::int64_t dims, bool first, float* scores) {
  Vec sum[kQueries][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = first ? zero() : load(scores + i * kScoreStride + v * 16);
    }
  }
  for (std::int64_t d = 0; d < dims; ++d) {
    read_ahead(next, d * kPageTokens, kPageTokens);
    Vec key[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) key[v] = load16(keys + d * kPageTokens + v * 16);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const Vec x = set1(q[i][d]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(x, key[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(scores + i * kScoreStride + v * 16, sum[i][v]);
  }
}

// `left` vectors of tokens, as many of them as kVectors.
template <int kQueries, int kVectors, typename T>
LIQUIDGEMM_INLINE void score_vectors_of(std::int64_t left, const float* const* q, const T* keys,
                                        const T* next, std::int64_t dims, bool first,
                                        float* scores) {
  if constexpr (kVectors > 1) {
    if (left < kVectors) {
      score_vectors_of<kQueries, kVectors - 1>(left, q, keys, next, dims, first, scores);
      return;
    }
  }
  add_products<kQueries, kVectors>(q, keys, next, dims, first, scores);
}

// Scores of `tokens` tokens, rounded up to whole vectors: a page has slots for them all, and lanes
// of tokens that a query does not see are dropped by softmax_part.
template <int kQueries, typename T>
void score_tokens(const float* const* q, const T* keys, const T* next, std::int64_t dims,
                  bool first, std::int64_t tokens, float* scores) {
  constexpr int kWide = score_vectors(kQueries);
  for (std::int64_t t = 0; t < tokens; t += 16 * kWide) {
    score_vectors_of<kQueries, kWide>((tokens - t + 15) / 16, q, keys + t, t == 0 ? next : nullptr,
                                      dims, first, scores + t);
  }
}

// Every query against the page at token t0, dimensions d0 .. d0 + dims - 1 of it.
template <typename T>
void score_page(const Queries& all, std::int64_t t0, const T* keys, const T* next, std::int64_t d0,
                std::int64_t dims, float* scratch) {
  std::int64_t count = 0;
  Cursor at;
  for (std::int64_t i = 0; i < all.count; i += count) {
    count = all.count - i < kTogether ? all.count - i : kTogether;
    const float* q[kTogether];
    std::int64_t tokens = 0;  // the last of them sees the most
    for (std::int64_t j = 0; j < count; ++j, at.advance(all)) {
      q[j] = all.q + at.row * all.row_stride + at.head * all.head_dim + d0;
      tokens = all.seen_of_page(at.row, t0);
    }
    if (tokens == 0) continue;
    float* scores = scratch + i * kScoreStride + t0;
    const T* ahead = i == 0 ? next : nullptr;
    switch (count) {
      case 1: score_tokens<1>(q, keys, ahead, dims, d0 == 0, tokens, scores); break;
      case 2: score_tokens<2>(q, keys, ahead, dims, d0 == 0, tokens, scores); break;
      case 3: score_tokens<3>(q, keys, ahead, dims, d0 == 0, tokens, scores); break;
      default: score_tokens<4>(q, keys, ahead, dims, d0 == 0, tokens, scores); break;
    }
  }
}

template <typename T>
void score_keys(const Queries& all, std::int64_t t0, const T* keys, const T* next, float* tile,
                float* scratch) {
  if (all.count <= kDirectQueries || std::is_same_v<T, float>) {
    score_page(all, t0, keys, next, 0, all.head_dim, scratch);
    return;
  }
  for (std::int64_t d0 = 0; d0 < all.head_dim; d0 += kTileDims) {
    const std::int64_t dims = all.head_dim - d0 < kTileDims ? all.head_dim - d0 : kTileDims;
    const T* from = keys + d0 * kPageTokens;
    for (std::int64_t i = 0; i < dims * kPageTokens; i += 16) store(tile + i, load16(from + i));
    score_page<float>(all, t0, tile, nullptr, d0, dims, scratch);
  }
}

// out[query][d .. d + 16 * kVectors) += weight * value for tokens first .. last-1 of the page, in
// ascending order. The sums stay in registers: kQueries share each value that is loaded. `values`
// is at dimension d of the page's first token, `next` at the first dimension of its own, or null.
template <int kQueries, int kVectors, typename T>
LIQUIDGEMM_INLINE void add_values(const float* weights, const T* values, const T* next,
                                  std::int64_t stride, std::int64_t first, std::int64_t last,
                                  const AttentionPart* parts, std::int64_t d,
                                  std::int64_t lanes_left) {
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
    read_ahead(next, t * stride + d, 16 * kVectors);
    Vec value[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) value[v] = load16(values + t * stride + v * 16);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const Vec weight = set1(weights[i * kScoreStride + t]);
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

// Dimensions d0 .. d0 + dims - 1; `values` is at d0 of the page's first token.
template <int kQueries, typename T>
void add_tokens(const float* weights, const T* values, const T* next, std::int64_t stride,
                std::int64_t first, std::int64_t last, const AttentionPart* parts, std::int64_t d0,
                std::int64_t dims) {
  constexpr int kWide = value_vectors(kQueries);
  if (first >= last) return;
  std::int64_t d = 0;
  for (; d + 16 * kWide <= dims; d += 16 * kWide) {
    add_values<kQueries, kWide>(weights, values + d, next, stride, first, last, parts, d0 + d,
                                16 * kWide);
  }
  if constexpr (kWide > 4) {
    for (; d + 64 <= dims; d += 64) {
      add_values<kQueries, 4>(weights, values + d, next, stride, first, last, parts, d0 + d, 64);
    }
  }
  for (; d < dims; d += 16) {
    const std::int64_t left = dims - d < 16 ? dims - d : 16;
    add_values<kQueries, 1>(weights, values + d, next, stride, first, last, parts, d0 + d, left);
  }
}

template <typename T>
void add_page(const Queries& all, std::int64_t t0, const T* values, const T* next,
              std::int64_t stride, std::int64_t d0, std::int64_t dims, const float* scratch,
              AttentionPart* parts) {
  std::int64_t count = 0;
  Cursor at;
  for (std::int64_t i = 0; i < all.count; i += count) {
    count = all.count - i < kTogether ? all.count - i : kTogether;
    const float* weights = scratch + i * kScoreStride + t0;
    // The tokens that the first of these queries sees, all see; a token that a query does not
    // see may hold a NaN, so it is left out rather than weighted with 0.
    const std::int64_t common = all.seen_of_page(at.row, t0);
    const T* ahead = i == 0 ? next : nullptr;
    switch (count) {
      case 1: add_tokens<1>(weights, values, ahead, stride, 0, common, parts + i, d0, dims); break;
      case 2: add_tokens<2>(weights, values, ahead, stride, 0, common, parts + i, d0, dims); break;
      case 3: add_tokens<3>(weights, values, ahead, stride, 0, common, parts + i, d0, dims); break;
      default: add_tokens<4>(weights, values, ahead, stride, 0, common, parts + i, d0, dims); break;
    }
    for (std::int64_t j = 0; j < count; ++j, at.advance(all)) {
      const std::int64_t end = all.seen_of_page(at.row, t0);
      add_tokens<1, T>(weights + j * kScoreStride, values, nullptr, stride, common, end,
                       parts + i + j, d0, dims);
    }
  }
}

template <typename T>
void weigh_values(const Queries& all, std::int64_t t0, const T* values, const T* next, float* tile,
                  const float* scratch, AttentionPart* parts) {
  const std::int64_t head_dim = all.head_dim;
  std::int64_t d0 = 0;
  if (all.count <= kDirectQueries) {
    d0 = head_dim / 16 * 16;  // a vector past the end of a row could reach past the page
    add_page(all, t0, values, next, head_dim, 0, d0, scratch, parts);
  }
  const std::int64_t tokens = all.tokens - t0 < kPageTokens ? all.tokens - t0 : kPageTokens;
  for (; d0 < head_dim; d0 += kTileDims) {
    const std::int64_t dims = head_dim - d0 < kTileDims ? head_dim - d0 : kTileDims;
    const std::int64_t whole = dims / 16 * 16;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const T* from = values + t * head_dim + d0;
      float* row = tile + t * kTileDims;
      for (std::int64_t d = 0; d < whole; d += 16) store(row + d, load16(from + d));
      if (whole < dims) {
        T last[16] = {};
        for (std::int64_t d = whole; d < dims; ++d) last[d - whole] = from[d];
        store(row + whole, load16(last));
      }
    }
    add_page<float>(all, t0, tile, nullptr, kTileDims, d0, dims, scratch, parts);
  }
}

// 16 * kCount scores from their products, the first `count` of them real; they join the maximum.
template <int kCount>
LIQUIDGEMM_INLINE Vec make_scores(float* scores, std::int64_t count, const float* k_scale,
                                  const Vec& factor, Vec most) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    Vec score = load(scores + i * 16);
    if (k_scale != nullptr) score = mul(score, load_partial(k_scale + i * 16, count));
    score = mul(score, factor);
    store(scores + i * 16, score);
    if (kCount == 1) score = first_lanes(score, set1(-__builtin_inff()), count);
    most = greater(score, most);
  }
  return most;
}

// And their weights, which join the sum before the values' scales do theirs.
template <int kCount>
LIQUIDGEMM_INLINE Vec make_weights(float* scores, std::int64_t count, const KvPageView* pages,
                                   std::int64_t t, const Vec& shift, Vec sum) {
  Vec p[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) p[i] = sub(load(scores + i * 16), shift);
  exp(p);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    if (kCount == 1) p[i] = first_lanes(p[i], zero(), count);
    sum = add(sum, p[i]);
    const std::int64_t at = t + i * 16;
    const float* v_scale = pages[at / kPageTokens].v_scale;
    if (v_scale != nullptr) p[i] = mul(p[i], load_partial(v_scale + at % kPageTokens, count));
    store(scores + i * 16, p[i]);
  }
  return sum;
}

// Those of tokens t and on: kCount vectors together as long as there are as many, then half of it.
template <int kCount>
LIQUIDGEMM_INLINE Vec make_all_weights(float* scores, std::int64_t t, std::int64_t tokens,
                                       const KvPageView* pages, const Vec& shift, Vec sum) {
  if constexpr (kCount > 1) {
    for (; t + 16 * kCount <= tokens; t += 16 * kCount) {
      sum = make_weights<kCount>(scores + t, 16, pages, t, shift, sum);
    }
    return make_all_weights<kCount / 2>(scores, t, tokens, pages, shift, sum);
  } else {
    for (; t < tokens; t += 16) {
      const std::int64_t count = tokens - t < 16 ? tokens - t : 16;
      sum = make_weights<1>(scores + t, count, pages, t, shift, sum);
    }
    return sum;
  }
}

// Sums of products become scores, and scores weights: max, exp, their sum, the values' scales.
void softmax_part(float* scores, std::int64_t tokens, const KvPageView* pages, float softmax_scale,
                  AttentionPart* part) {
  const Vec factor = set1(softmax_scale);
  Vec most = set1(-__builtin_inff());
  std::int64_t t = 0;
  const auto k_scale = [&] {
    const float* of_page = pages[t / kPageTokens].k_scale;
    return of_page == nullptr ? nullptr : of_page + t % kPageTokens;
  };
  for (; t + kPageTokens <= tokens; t += kPageTokens) {
    most = make_scores<kPageTokens / 16>(scores + t, 16, k_scale(), factor, most);
  }
  for (; t < tokens; t += 16) {
    const std::int64_t count = tokens - t < 16 ? tokens - t : 16;
    most = make_scores<1>(scores + t, count, k_scale(), factor, most);
  }
  // No lane is a NaN: greater() has returned the other operand.
  part->max = folded_max(most);
  part->sum =
      folded_sum(make_all_weights<kExpTogether>(scores, 0, tokens, pages, set1(part->max), zero()));
}

// Pages whose keys and values are the members `k` and `v`.
template <typename T>
void attend_pages(const Queries& all, const KvPageView* pages, const T* KvPageView::*k,
                  const T* KvPageView::*v, float softmax_scale, const KvPageView& then,
                  AttentionPart* parts, float* scratch) {
  alignas(64) float tile[kTileFloats];
  const std::int64_t last = (all.tokens - 1) / kPageTokens;
  for (std::int64_t i = 0; i <= last; ++i) {
    // Behind the last keys come the first values.
    const T* next = i < last ? pages[i + 1].*k : pages[0].*v;
    score_keys(all, i * kPageTokens, pages[i].*k, next, tile, scratch);
  }
  Cursor at;
  for (std::int64_t i = 0; i < all.count; ++i, at.advance(all)) {
    softmax_part(scratch + i * kScoreStride, all.seen(at.row), pages, softmax_scale, &parts[i]);
    for (std::int64_t d = 0; d < all.head_dim; ++d) parts[i].out[d] = 0.0f;
  }
  for (std::int64_t i = 0; i <= last; ++i) {
    const T* next = i < last ? pages[i + 1].*v : then.*k;
    weigh_values(all, i * kPageTokens, pages[i].*v, next, tile, scratch, parts);
  }
}

void attention_rows(const float* q, std::int64_t rows, std::int64_t row_stride, std::int64_t group,
                    std::int64_t visible, const KvPageView* pages, std::int64_t tokens,
                    std::int64_t head_dim, float softmax_scale, const KvPageView& then,
                    AttentionPart* parts, float* scratch) {
  const Queries all = {q, row_stride, group, head_dim, visible, tokens, rows * group};
  const auto attend = [&](auto k, auto v) {
    attend_pages(all, pages, k, v, softmax_scale, then, parts, scratch);
  };
  if (pages[0].k_f32 != nullptr) {
    attend(&KvPageView::k_f32, &KvPageView::v_f32);
  } else if (pages[0].k_f16 != nullptr) {
    attend(&KvPageView::k_f16, &KvPageView::v_f16);
  } else if (pages[0].k_bf16 != nullptr) {
    attend(&KvPageView::k_bf16, &KvPageView::v_bf16);
  } else {
    attend(&KvPageView::k_int8, &KvPageView::v_int8);
  }
}

void attention_split(const float* q, std::int64_t queries, const KvPageView* pages,
                     std::int64_t tokens, std::int64_t head_dim, float softmax_scale,
                     AttentionPart* parts, float* scratch) {
  attention_rows(q, 1, 0, queries, tokens, pages, tokens, head_dim, softmax_scale, KvPageView{},
                 parts, scratch);
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
