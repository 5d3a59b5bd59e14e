// Float sums on AVX-512, of float or FP16 weights: panels of 32 rows, tiles of up to 12 tokens.
//
// The contract sums blocks of 256 k and adds the blocks in order. Block by block, all tiles of the
// job run against the same few panels (32 KiB of weights each, in L2), and a tile's 12 KiB stay in
// L1 while the panels pass. The totals wait in scratch as [panel][token][32].
#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 12;
constexpr int kMaxPanels = 4;  // that pass one tile together
constexpr int kVectors = 2;
constexpr int kLanes = 16;
constexpr int kRows = kVectors * kLanes;

LIQUIDGEMM_INLINE __m512 load(const float* weights) { return _mm512_load_ps(weights); }
LIQUIDGEMM_INLINE __m512 load(const std::uint16_t* weights) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(weights)));
}

// total[t] += sum over `count` k of weights * x[t], summed from zero in ascending k.
template <int T, typename Weight>
void add_block(const Weight* weights, const float* x, std::int64_t count, float* total) {
  __m512 sum[T][kVectors];
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < count; ++k) {
    if constexpr (sizeof(Weight) == 2) {
      _mm_prefetch(reinterpret_cast<const char*>(weights) + kPrefetchBytes, _MM_HINT_T0);
    }
    const __m512 w0 = load(weights);
    const __m512 w1 = load(weights + kLanes);
    LIQUIDGEMM_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m512 value = _mm512_set1_ps(x[t]);
      sum[t][0] = _mm512_fmadd_ps(value, w0, sum[t][0]);
      sum[t][1] = _mm512_fmadd_ps(value, w1, sum[t][1]);
    }
    weights += kRows;
    x += T;
  }
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      float* at = total + t * kRows + v * kLanes;
      _mm512_store_ps(at, _mm512_add_ps(_mm512_load_ps(at), sum[t][v]));
    }
  }
}

template <typename Weight>
using AddBlock = void (*)(const Weight* weights, const float* x, std::int64_t count, float* total);
template <typename Weight>
constexpr AddBlock<Weight> kAddBlock[kMaxTile + 1] = {
    nullptr,       add_block<1>,  add_block<2>, add_block<3>, add_block<4>,
    add_block<5>,  add_block<6>,  add_block<7>, add_block<8>, add_block<9>,
    add_block<10>, add_block<11>, add_block<12>};

LIQUIDGEMM_INLINE __mmask16 row_mask(std::int64_t rows, int v) {
  const std::int64_t left = rows - kLanes * v;
  if (left >= kLanes) return 0xFFFF;
  return left <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << left) - 1);
}

void store_totals(const FloatJob& job, std::int64_t panel, const float* total) {
  const std::int64_t row0 = panel * kRows;
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = row_mask(job.n - row0, v);
    const std::int64_t row = row0 + v * kLanes;
    const __m512 bias =
        job.bias ? _mm512_maskz_loadu_ps(mask, job.bias + row) : _mm512_setzero_ps();
    for (std::int64_t token = 0; token < job.m; ++token) {
      __m512 y = _mm512_load_ps(total + token * kRows + v * kLanes);
      if (job.bias) y = _mm512_add_ps(y, bias);
      _mm512_mask_storeu_ps(job.out + token * job.ld_out + row, mask, y);
    }
  }
}

// Panels panel .. panel + panels - 1, at most kMaxPanels.
template <typename Weight>
void run_panels(const FloatJob& job, std::int64_t panel, std::int64_t panels, float* total) {
  const Weight* weights = static_cast<const Weight*>(job.panels) + panel * job.k * kRows;
  for (std::int64_t i = 0; i < panels * job.m * kRows; i += kLanes) {
    _mm512_store_ps(total + i, _mm512_setzero_ps());
  }
  for (std::int64_t k = 0; k < job.k; k += job.block) {
    const std::int64_t count = job.k - k < job.block ? job.k - k : job.block;
    for (std::int64_t tile = 0; tile < job.tiles; ++tile) {
      const std::int64_t token0 = job.m * tile / job.tiles;
      const std::int64_t height = job.m * (tile + 1) / job.tiles - token0;
      const float* x = job.x + token0 * job.k + k * height;
      for (std::int64_t p = 0; p < panels; ++p) {
        kAddBlock<Weight>[height](weights + (p * job.k + k) * kRows, x, count,
                                  total + (p * job.m + token0) * kRows);
      }
    }
  }
  for (std::int64_t p = 0; p < panels; ++p) {
    store_totals(job, panel + p, total + p * job.m * kRows);
  }
}

template <typename Weight>
void run(const FloatJob& job, std::int64_t panel_begin, std::int64_t panel_end, float* total) {
  // One tile reads every weight once, in memory order; several share panels in the cache.
  const std::int64_t most = job.tiles == 1 ? 1 : kMaxPanels;
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += most) {
    run_panels<Weight>(job, panel, panel_end - panel < most ? panel_end - panel : most, total);
  }
}

}  // namespace

const FloatKernel kFloatAvx512 = {run<float>, kMaxTile, kRows, kMaxPanels* kRows};
const FloatKernel kFp16Avx512 = {run<std::uint16_t>, kMaxTile, kRows, kMaxPanels* kRows};

}  // namespace liquidgemm::cpu
