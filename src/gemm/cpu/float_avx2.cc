// Float sums on AVX2 and FMA, of float or FP16 weights: panels of 16 rows, tiles of up to 6 tokens
// (12 accumulators of the 16 registers). The order of summation is that of the contract: see
// float_avx512.cc.
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 6;
constexpr int kVectors = 2;
constexpr int kLanes = 8;
constexpr int kRows = kVectors * kLanes;

LIQUIDGEMM_INLINE __m256 load(const float* weights) { return _mm256_load_ps(weights); }
LIQUIDGEMM_INLINE __m256 load(const std::uint16_t* weights) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(weights)));
}

// total[t] += sum over `count` k of weights * x[t], summed from zero in ascending k.
template <int T, typename Weight>
void add_block(const Weight* weights, const float* x, std::int64_t count, float* total) {
  __m256 sum[T][kVectors];
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm256_setzero_ps();
  }
  for (std::int64_t k = 0; k < count; ++k) {
    if constexpr (sizeof(Weight) == 2) {
      _mm_prefetch(reinterpret_cast<const char*>(weights) + kPrefetchBytes, _MM_HINT_T0);
    }
    const __m256 w0 = load(weights);
    const __m256 w1 = load(weights + kLanes);
    LIQUIDGEMM_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m256 value = _mm256_set1_ps(x[t]);
      sum[t][0] = _mm256_fmadd_ps(value, w0, sum[t][0]);
      sum[t][1] = _mm256_fmadd_ps(value, w1, sum[t][1]);
    }
    weights += kRows;
    x += T;
  }
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      float* at = total + t * kRows + v * kLanes;
      _mm256_store_ps(at, _mm256_add_ps(_mm256_load_ps(at), sum[t][v]));
    }
  }
}

template <typename Weight>
using AddBlock = void (*)(const Weight* weights, const float* x, std::int64_t count, float* total);
template <typename Weight>
constexpr AddBlock<Weight> kAddBlock[kMaxTile + 1] = {
    nullptr, add_block<1>, add_block<2>, add_block<3>, add_block<4>, add_block<5>, add_block<6>};

void store_totals(const FloatJob& job, std::int64_t panel, const float* total) {
  const std::int64_t row0 = panel * kRows;
  const std::int64_t rows = job.n - row0 < kRows ? job.n - row0 : kRows;
  for (std::int64_t token = 0; token < job.m; ++token) {
    float* out = job.out + token * job.ld_out + row0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const float y = total[token * kRows + r];
      out[r] = job.bias ? y + job.bias[row0 + r] : y;
    }
  }
}

template <typename Weight>
void run(const FloatJob& job, std::int64_t panel_begin, std::int64_t panel_end, float* total) {
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const Weight* weights = static_cast<const Weight*>(job.panels) + panel * job.k * kRows;
    for (std::int64_t i = 0; i < job.m * kRows; i += kLanes) {
      _mm256_store_ps(total + i, _mm256_setzero_ps());
    }
    for (std::int64_t k = 0; k < job.k; k += job.block) {
      const std::int64_t count = job.k - k < job.block ? job.k - k : job.block;
      for (std::int64_t tile = 0; tile < job.tiles; ++tile) {
        const std::int64_t token0 = job.m * tile / job.tiles;
        const std::int64_t height = job.m * (tile + 1) / job.tiles - token0;
        kAddBlock<Weight>[height](weights + k * kRows, job.x + token0 * job.k + k * height, count,
                                  total + token0 * kRows);
      }
    }
    store_totals(job, panel, total);
  }
}

}  // namespace

const FloatKernel kFloatAvx2 = {run<float>, kMaxTile, kRows, kRows};
const FloatKernel kFp16Avx2 = {run<std::uint16_t>, kMaxTile, kRows, kRows};

}  // namespace liquidgemm::cpu
