// 4-bit weights on AVX2, which has no byte product that sums into 32 bits.
//
// The factored form for every number of tokens: `maddubs` multiplies raw nibbles (0..15) with
// signed bytes and adds neighbours into 16 bits. |2 * 15 * 128| = 3840, so eight of them (32 k)
// stay below 2^15; then one `madd` multiplies by the step and widens. Decoded 8-bit weights would
// saturate in `maddubs`.
#include "gemm/cpu/integer_store_avx2.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 4;
constexpr int kPanelVectors = kPanelRows / kLanes;
constexpr std::int64_t kChunk = 8;          // k of 128 packed bytes
constexpr std::int64_t kChunksOf16Bit = 4;  // chunks that fit into the 16-bit sums

LIQUIDGEMM_INLINE __m256i broadcast_word(const std::int8_t* x) {
  std::int32_t word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// 8 bytes, one for each row, to the low byte of each 32-bit lane.
LIQUIDGEMM_INLINE __m256i widen_rows(const std::uint8_t* bytes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

template <int T, int V>
LIQUIDGEMM_INLINE void clear(__m256i (&sum)[T][V]) {
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < V; ++v) sum[t][v] = _mm256_setzero_si256();
  }
}

// T tokens against rows 8 * first .. 8 * (first + V) - 1 of a panel.
template <int T, int V>
LIQUIDGEMM_INLINE void run_vectors(const IntegerJob& job, std::int64_t panel, std::int64_t token0,
                                   int first) {
  const std::int64_t groups = (job.k + job.group_size - 1) / job.group_size;
  const std::uint8_t* packed = job.panels + panel * job.panel_bytes;
  const std::int8_t* x = static_cast<const std::int8_t*>(job.x) + token0 * job.k;
  const std::int16_t* group_sum = job.group_sums + token0 * groups;
  const __m256i mask = _mm256_set1_epi8(0x0F);
  __m256i sum[T][V];
  clear(sum);
  for (std::int64_t k = 0; k < job.k; k += job.group_size) {
    const std::uint8_t* head = packed + kLanes * first;
    packed += 2 * kPanelRows;
    const std::int64_t left = job.k - k;
    std::int64_t chunks = (left < job.group_size ? left : job.group_size) / kChunk;
    while (chunks > 0) {
      const std::int64_t count = chunks < kChunksOf16Bit ? chunks : kChunksOf16Bit;
      chunks -= count;
      __m256i narrow[T][V];
      clear(narrow);
      for (std::int64_t chunk = 0; chunk < count; ++chunk) {
        LIQUIDGEMM_UNROLL
        for (int v = 0; v < V; ++v) {
          const auto* at = reinterpret_cast<const __m256i*>(packed) + first + v;
          const __m256i pairs = _mm256_load_si256(at);
          const __m256i low = _mm256_and_si256(pairs, mask);
          const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask);
          LIQUIDGEMM_UNROLL
          for (int t = 0; t < T; ++t) {
            const __m256i a = _mm256_maddubs_epi16(low, broadcast_word(x + 4 * t));
            const __m256i b = _mm256_maddubs_epi16(high, broadcast_word(x + 4 * T + 4 * t));
            narrow[t][v] = _mm256_add_epi16(narrow[t][v], _mm256_add_epi16(a, b));
          }
        }
        packed += 4 * kPanelRows;
        x += kChunk * T;
      }
      LIQUIDGEMM_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i step = widen_rows(head + kLanes * v);
        const __m256i both = _mm256_or_si256(step, _mm256_slli_epi32(step, 16));
        LIQUIDGEMM_UNROLL
        for (int t = 0; t < T; ++t) {
          sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(narrow[t][v], both));
        }
      }
    }
    // a * sum_x: the upper half of each lane is zero.
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256i offset = widen_rows(head + kPanelRows + kLanes * v);
      LIQUIDGEMM_UNROLL
      for (int t = 0; t < T; ++t) {
        const __m256i x_sum = _mm256_set1_epi32(static_cast<std::uint16_t>(group_sum[t]));
        sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(offset, x_sum));
      }
    }
    group_sum += T;
  }
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < V; ++v) {
      store_rows(job, token0 + t, panel * kPanelRows + kLanes * (first + v), sum[t][v]);
    }
  }
}

// One token reads each panel once, in order; more tokens read it in V-wide columns from the cache.
template <int T, int V>
void run_tile(const IntegerJob& job, std::int64_t panel, std::int64_t token0) {
  for (int first = 0; first < kPanelVectors; first += V) {
    run_vectors<T, V>(job, panel, token0, first);
  }
}

using Tile = void (*)(const IntegerJob&, std::int64_t panel, std::int64_t token0);
constexpr Tile kTiles[kMaxTile + 1] = {nullptr, run_tile<1, 4>, run_tile<2, 2>, run_tile<3, 1>,
                                       run_tile<4, 1>};

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void*) {
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (std::int64_t tile = 0; tile < job.tiles; ++tile) {
      const std::int64_t token0 = job.m * tile / job.tiles;
      const std::int64_t height = job.m * (tile + 1) / job.tiles - token0;
      kTiles[height](job, panel, token0);
    }
  }
}

}  // namespace

const IntegerKernel kLiquid4Avx2 = {run, kMaxTile, false, INT64_MAX, 0};

}  // namespace liquidgemm::cpu
