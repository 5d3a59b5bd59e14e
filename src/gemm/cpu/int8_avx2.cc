// INT8 weights on AVX2: codes are widened to 16 bits and multiplied by `madd` with activations that
// were widened when they were packed. (`maddubs` on 8-bit codes would saturate.)
//
// 16 bytes of a panel are 4 rows x 4 k; `madd` leaves two 32-bit sums for each row (k, k+1 and
// k+2, k+3), which are added once at the end.
#include "gemm/cpu/integer_store_avx2.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 6;
constexpr int kUnitRows = 4;
constexpr int kPanelUnits = kPanelRows / kUnitRows;

LIQUIDGEMM_INLINE __m256i broadcast_word(const std::int16_t* x) {
  long long word;
  __builtin_memcpy(&word, x, sizeof word);
  return _mm256_set1_epi64x(word);
}

// T tokens against U units of 4 rows, from unit `first` of the panel. U is even.
template <int T, int U>
LIQUIDGEMM_INLINE void run_units(const IntegerJob& job, std::int64_t panel, std::int64_t token0,
                                 int first) {
  const auto* codes =
      reinterpret_cast<const __m128i*>(job.panels + panel * job.panel_bytes) + first;
  const std::int16_t* x = static_cast<const std::int16_t*>(job.x) + token0 * job.k;
  __m256i sum[T][U];
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int u = 0; u < U; ++u) sum[t][u] = _mm256_setzero_si256();
  }
  for (std::int64_t word = 0; word < job.k / 4; ++word) {
    LIQUIDGEMM_UNROLL
    for (int u = 0; u < U; ++u) {
      const __m256i wide = _mm256_cvtepu8_epi16(_mm_load_si128(codes + u));
      LIQUIDGEMM_UNROLL
      for (int t = 0; t < T; ++t) {
        const __m256i product = _mm256_madd_epi16(wide, broadcast_word(x + 4 * t));
        sum[t][u] = _mm256_add_epi32(sum[t][u], product);
      }
    }
    codes += kPanelUnits;
    x += 4 * T;
  }
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int u = 0; u < U; u += 2) {
      // hadd works within 128-bit halves: rows come out as 0 1 4 5 | 2 3 6 7.
      const __m256i mixed = _mm256_hadd_epi32(sum[t][u], sum[t][u + 1]);
      const __m256i rows = _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0));
      store_rows(job, token0 + t, panel * kPanelRows + kUnitRows * (first + u), rows);
    }
  }
}

// One token reads each panel once, in order; more tokens read it in columns from the cache.
template <int T, int U>
void run_tile(const IntegerJob& job, std::int64_t panel, std::int64_t token0) {
  for (int first = 0; first < kPanelUnits; first += U) run_units<T, U>(job, panel, token0, first);
}

using Tile = void (*)(const IntegerJob&, std::int64_t panel, std::int64_t token0);
constexpr Tile kTiles[kMaxTile + 1] = {nullptr,        run_tile<1, 8>, run_tile<2, 4>,
                                       run_tile<3, 4>, run_tile<4, 2>, run_tile<5, 2>,
                                       run_tile<6, 2>};

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

const IntegerKernel kInt8Avx2 = {run, kMaxTile, ActivationOrder::kWideWords, 0, nullptr};

}  // namespace liquidgemm::cpu
