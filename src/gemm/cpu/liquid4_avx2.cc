// 4-bit weights on AVX2, which has no byte product that sums into 32 bits.
//
// The factored form for every number of tokens: `maddubs` multiplies raw nibbles (0..15) with
// signed bytes and adds neighbours into 16 bits. |2 * 15 * 128| = 3840, so eight of them (32 k)
// stay below 2^15; then one `madd` multiplies by the step and widens. Decoded 8-bit weights would
// saturate in `maddubs`.
#include "gemm/cpu/integer_store_avx2.h"
#include "gemm/cpu/liquid4_groups.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 4;
constexpr int kPanelVectors = kPanelRows / kLanes;
constexpr int kChunksOf16Bit = 4;  // chunks that fit into the 16-bit sums

LIQUIDGEMM_INLINE __m256i broadcast_word(const std::int8_t* x) {
  std::int32_t word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// 8 bytes, one for each row, to the low byte of each 32-bit lane.
LIQUIDGEMM_INLINE __m256i widen_rows(const std::uint8_t* bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

// s in both 16-bit halves of a row's lane.
LIQUIDGEMM_INLINE __m256i step_pairs(const std::uint8_t* step) {
  const __m256i wide = widen_rows(step);
  return _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
}

template <int T, int V>
LIQUIDGEMM_INLINE void clear(__m256i (&sum)[T][V]) {
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < V; ++v) sum[t][v] = _mm256_setzero_si256();
  }
}

// narrow += one chunk of V vectors of rows times T tokens, in 16 bits. Asks for the bytes that lie
// `ahead` of its own.
template <int T, int V>
LIQUIDGEMM_INLINE void add_chunk(const std::uint8_t* packed, std::int64_t ahead,
                                 const std::int8_t* x, __m256i (&narrow)[T][V]) {
  const __m256i mask = _mm256_set1_epi8(0x0F);
  __m256i low[V], high[V];
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < V; ++v) {
    // Two vectors share a cache line.
    if (v % 2 == 0) _mm_prefetch(packed + ahead + 32 * v, _MM_HINT_T0);
    const __m256i pairs = _mm256_load_si256(reinterpret_cast<const __m256i*>(packed) + v);
    low[v] = _mm256_and_si256(pairs, mask);
    high[v] = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask);
  }
  // Tokens outside, rows inside: four codes, one word of tokens and all sums fit the registers.
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    const __m256i x_low = broadcast_word(x + 4 * t);
    const __m256i x_high = broadcast_word(x + 4 * T + 4 * t);
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < V; ++v) {
      narrow[t][v] = _mm256_add_epi16(narrow[t][v], _mm256_maddubs_epi16(low[v], x_low));
      narrow[t][v] = _mm256_add_epi16(narrow[t][v], _mm256_maddubs_epi16(high[v], x_high));
    }
  }
}

// One token: all 32 rows at once, so each panel is read once and in order, and the sums stay in
// registers from its first group to its last.
void run_panel_one(const IntegerJob& job, std::int64_t panel, const WeightStream& stream) {
  const std::uint8_t* packed = job.panels + panel * job.panel_bytes;
  const std::int8_t* x = static_cast<const std::int8_t*>(job.x);
  const std::int16_t* group_sum = job.group_sums;
  __m256i sum[1][kPanelVectors];
  clear(sum);
  for (std::int64_t k = 0; k < job.k; k += job.group_size) {
    const std::uint8_t* head = packed;
    const std::int64_t ahead = distance_ahead(stream, packed, kPrefetchBytes);
    _mm_prefetch(head + ahead, _MM_HINT_T0);
    packed += 2 * kPanelRows;
    std::int64_t chunks = chunks_of_group(job, k);
    while (chunks > 0) {
      const std::int64_t count = chunks < kChunksOf16Bit ? chunks : kChunksOf16Bit;
      chunks -= count;
      __m256i narrow[1][kPanelVectors];
      clear(narrow);
      for (std::int64_t chunk = 0; chunk < count; ++chunk) {
        add_chunk<1, kPanelVectors>(packed, ahead, x, narrow);
        packed += 4 * kPanelRows;
        x += kChunk;
      }
      LIQUIDGEMM_UNROLL
      for (int v = 0; v < kPanelVectors; ++v) {
        const __m256i products = _mm256_madd_epi16(narrow[0][v], step_pairs(head + kLanes * v));
        sum[0][v] = _mm256_add_epi32(sum[0][v], products);
      }
    }
    const __m256i x_sum = _mm256_set1_epi32(static_cast<std::uint16_t>(*group_sum++));
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m256i offset = widen_rows(head + kPanelRows + kLanes * v);
      sum[0][v] = _mm256_add_epi32(sum[0][v], _mm256_madd_epi16(offset, x_sum));
    }
  }
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kPanelVectors; ++v) {
    store_rows(job, 0, panel * kPanelRows + kLanes * v, sum[0][v]);
  }
}

// One group of one panel, and what one tile of tokens has there.
struct Group {
  const std::uint8_t* head;  // steps, offsets, then the chunks
  std::int64_t chunks;
  std::int64_t ahead;         // how far from here the bytes lie that are asked for
  const std::int8_t* x;       // [chunk][2][T][4]
  const std::int16_t* x_sum;  // [T]
  __m256i* sum;               // [T][kPanelVectors], the panel's sums so far
};

// sum += s * (sum of q * x) + a * (sum of x), V vectors of rows at a time: the 16-bit sums of T
// tokens have to stay in registers. The group's lines are in L1 when the next V rows read them.
template <int T, int V>
void add_group(const Group& group) {
  const Group g = group;  // a copy that the stores to `sum` cannot change
  for (int first = 0; first < kPanelVectors; first += V) {
    const std::uint8_t* step = g.head + kLanes * first;
    const std::uint8_t* offset = step + kPanelRows;
    const std::uint8_t* packed = g.head + 2 * kPanelRows + 32 * first;
    const std::int8_t* x = g.x;
    __m256i* sum = g.sum + first;
    // The upper half of each lane of `offset` is zero, so `madd` is a plain product.
    LIQUIDGEMM_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m256i x_sum = _mm256_set1_epi32(static_cast<std::uint16_t>(g.x_sum[t]));
      LIQUIDGEMM_UNROLL
      for (int v = 0; v < V; ++v) {
        __m256i* at = sum + t * kPanelVectors + v;
        const __m256i wide = widen_rows(offset + kLanes * v);
        *at = _mm256_add_epi32(*at, _mm256_madd_epi16(wide, x_sum));
      }
    }
    for (std::int64_t left = g.chunks; left > 0; left -= kChunksOf16Bit) {
      const std::int64_t count = left < kChunksOf16Bit ? left : kChunksOf16Bit;
      __m256i narrow[T][V];
      clear(narrow);
      for (std::int64_t chunk = 0; chunk < count; ++chunk) {
        add_chunk<T, V>(packed, g.ahead, x, narrow);
        packed += 4 * kPanelRows;
        x += kChunk * T;
      }
      LIQUIDGEMM_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i both = step_pairs(step + kLanes * v);
        LIQUIDGEMM_UNROLL
        for (int t = 0; t < T; ++t) {
          __m256i* at = sum + t * kPanelVectors + v;
          *at = _mm256_add_epi32(*at, _mm256_madd_epi16(narrow[t][v], both));
        }
      }
    }
  }
}

using AddGroup = void (*)(const Group&);
constexpr AddGroup kAddGroup[kMaxTile + 1] = {nullptr, add_group<1, 4>, add_group<2, 4>,
                                              add_group<3, 2>, add_group<4, 2>};

// Tiles that meet each group of weights together, so that it comes from memory once and while they
// all compute.
constexpr std::int64_t kTilesTogether = 4;

void run_tiles(const IntegerJob& job, std::int64_t panel, const WeightStream& stream,
               std::int64_t tile_begin, std::int64_t tile_end) {
  const std::int64_t groups = (job.k + job.group_size - 1) / job.group_size;
  __m256i sum[kTilesTogether * kMaxTile * kPanelVectors];
  const std::int64_t first = job.m * tile_begin / job.tiles;
  const std::int64_t last = job.m * tile_end / job.tiles;
  for (std::int64_t i = 0; i < (last - first) * kPanelVectors; ++i) {
    sum[i] = _mm256_setzero_si256();
  }
  const std::uint8_t* packed = job.panels + panel * job.panel_bytes;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t k = g * job.group_size;
    const std::int64_t chunks = chunks_of_group(job, k);
    const std::int64_t ahead = distance_ahead(stream, packed, kPrefetchBytes);
    _mm_prefetch(packed + ahead, _MM_HINT_T0);
    for (std::int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const std::int64_t token0 = job.m * tile / job.tiles;
      const std::int64_t height = job.m * (tile + 1) / job.tiles - token0;
      kAddGroup[height]({packed, chunks, ahead,
                         static_cast<const std::int8_t*>(job.x) + token0 * job.k + k * height,
                         job.group_sums + token0 * groups + g * height,
                         sum + (token0 - first) * kPanelVectors});
    }
    packed += 2 * kPanelRows + chunks * 4 * kPanelRows;
  }
  for (std::int64_t token = first; token < last; ++token) {
    for (int v = 0; v < kPanelVectors; ++v) {
      store_rows(job, token, panel * kPanelRows + kLanes * v,
                 sum[(token - first) * kPanelVectors + v]);
    }
  }
}

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void*) {
  const WeightStream stream = weight_stream(job, panel_end);
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    if (job.m == 1) {
      run_panel_one(job, panel, stream);
      continue;
    }
    for (std::int64_t tile = 0; tile < job.tiles; tile += kTilesTogether) {
      const std::int64_t end = tile + kTilesTogether;
      run_tiles(job, panel, stream, tile, end < job.tiles ? end : job.tiles);
    }
  }
}

}  // namespace

const IntegerKernel kLiquid4Avx2 = {run, kMaxTile, ActivationOrder::kQuads, INT64_MAX, nullptr};

}  // namespace liquidgemm::cpu
