// What the two AVX-512 kernels with INT32 sums share: the microkernel over a panel of unsigned
// codes and the store of a tile. Only the *_avx512.cc files include this.
//
// A tile of T tokens keeps 2 T accumulators: sum[t][v] holds rows 16v .. 16v+15 of the panel for
// token t. With T = 12 that is 24 registers, two for weights and one for the broadcast activations.
#pragma once

#include <immintrin.h>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kMaxTile = 12;
constexpr int kMaxPanels = 2;       // that pass one tile together
constexpr int kVectors = 2;         // zmm registers of one column of a panel
constexpr int kCodesPerWord = 128;  // bytes of one 4-k step of a panel of codes

LIQUIDGEMM_INLINE __m512i broadcast_word(const std::int8_t* x) {
  __m512i word;
  __asm__("vpbroadcastd %1, %0" : "=v"(word) : "m"(*reinterpret_cast<const std::int8_t(*)[4]>(x)));
  return word;
}

// The lanes of a vector that are real rows, of which `rows` are left.
LIQUIDGEMM_INLINE __mmask16 row_mask(std::int64_t rows) {
  if (rows >= 16) return 0xFFFF;
  return rows <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << rows) - 1);
}

// sum - 128 * row_sum to the job's INT32 or float output, for `tokens` tokens of one panel.
// sums is [token][32]. The codes are 128 above the weights.
__attribute__((noinline)) void store_sums(const IntegerJob& job, std::int64_t panel,
                                          std::int64_t token0, int tokens,
                                          const std::int32_t* sums) {
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t row0 = panel * kPanelRows + 16 * v;
    const __mmask16 mask = row_mask(job.n - row0);
    const __m512 channel_scale = _mm512_load_ps(job.channel_scale + row0);
    const __m512 bias =
        job.bias ? _mm512_maskz_loadu_ps(mask, job.bias + row0) : _mm512_setzero_ps();
    for (int t = 0; t < tokens; ++t) {
      const std::int64_t token = token0 + t;
      const __m512i exact = _mm512_sub_epi32(_mm512_load_si512(sums + t * kPanelRows + 16 * v),
                                             _mm512_set1_epi32(128 * job.row_sum[token]));
      const std::int64_t at = token * job.ld_out + row0;
      if (job.sums) {
        _mm512_mask_storeu_epi32(job.sums + at, mask, exact);
        continue;
      }
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(job.row_scale[token]), channel_scale);
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), scale);
      if (job.bias) y = _mm512_add_ps(y, bias);
      _mm512_mask_storeu_ps(job.out + at, mask, y);
    }
  }
}

// What the outputs of one panel have in common.
struct PanelOutput {
  __mmask16 mask[kVectors];
  __m512 channel_scale[kVectors];
};
LIQUIDGEMM_INLINE PanelOutput panel_output(const IntegerJob& job, std::int64_t panel) {
  const std::int64_t row0 = panel * kPanelRows;
  const float* scales = job.channel_scale + row0;
  return {{row_mask(job.n - row0), row_mask(job.n - row0 - 16)},
          {_mm512_load_ps(scales), _mm512_load_ps(scales + 16)}};
}

// What store_sums does, for the floats without bias of one token: what nearly every layer of a
// model wants.
LIQUIDGEMM_INLINE void store_token(const PanelOutput& panel, std::int32_t row_sum, float row_scale,
                                   const __m512i (&sum)[kVectors], float* out) {
  const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(row_sum), 7);
  const __m512 token_scale = _mm512_set1_ps(row_scale);
  LIQUIDGEMM_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[v], excess));
    const __m512 y = _mm512_mul_ps(exact, _mm512_mul_ps(token_scale, panel.channel_scale[v]));
    _mm512_mask_storeu_ps(out + 16 * v, panel.mask[v], y);
  }
}

// From the registers.
template <int T>
LIQUIDGEMM_INLINE void store_floats(const IntegerJob& job, std::int64_t panel, std::int64_t token0,
                                    const __m512i (&sum)[T][kVectors]) {
  const PanelOutput of_panel = panel_output(job, panel);
  float* out = job.out + token0 * job.ld_out + panel * kPanelRows;
  const float* row_scale = job.row_scale + token0;
  const std::int32_t* row_sum = job.row_sum + token0;
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    store_token(of_panel, row_sum[t], row_scale[t], sum[t], out);
    out += job.ld_out;
  }
}

// Otherwise the accumulators go through memory once: a store that branches for each of them would
// keep the compiler from holding them in registers.
template <int T>
LIQUIDGEMM_INLINE void store_tile(const IntegerJob& job, std::int64_t panel, std::int64_t token0,
                                  const __m512i (&sum)[T][kVectors]) {
  if (job.out != nullptr && job.bias == nullptr) {
    store_floats(job, panel, token0, sum);
    return;
  }
  alignas(64) std::int32_t sums[T * kPanelRows];
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      _mm512_store_si512(sums + t * kPanelRows + 16 * v, sum[t][v]);
    }
  }
  store_sums(job, panel, token0, T, sums);
}

template <int T>
LIQUIDGEMM_INLINE void clear(__m512i (&sum)[T][kVectors]) {
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[t][v] = _mm512_setzero_si512();
  }
}

// sum += codes * word, four products a lane.
LIQUIDGEMM_INLINE void multiply_add(__m512i& sum, __m512i codes, __m512i word) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(word));
}

// The words of a tile's tokens, which lie in quads (packed_activations.h), and how far a tile has
// come.
template <int T>
struct TileWords {
  static constexpr int kQuads = (T + kQuad - 1) / kQuad;
  const std::int8_t* at[kQuads];

  static constexpr std::int64_t height(int quad) {
    return T - kQuad * quad < kQuad ? T - kQuad * quad : kQuad;
  }
  __attribute__((always_inline)) TileWords(const IntegerJob& job, std::int64_t token0) {
    const std::int8_t* x = static_cast<const std::int8_t*>(job.x) + token0 * job.k;
    LIQUIDGEMM_UNROLL
    for (int i = 0; i < kQuads; ++i) at[i] = x + kQuad * i * job.k;
  }
  // Of token t, the first or second word of these 8 k.
  __attribute__((always_inline)) const std::int8_t* word(int t, int half) const {
    return at[t / kQuad] + 4 * (half * height(t / kQuad) + t % kQuad);
  }
  // To the 8 k behind these.
  __attribute__((always_inline)) void next() {
    LIQUIDGEMM_UNROLL
    for (int i = 0; i < kQuads; ++i) at[i] += 8 * height(i);
  }
  // What lies in L2 is asked for ahead.
  __attribute__((always_inline)) void prefetch() const {
    LIQUIDGEMM_UNROLL
    for (int i = 0; i < kQuads; ++i) _mm_prefetch(at[i] + 512, _MM_HINT_T0);
  }
};

// sum[t] += codes * x[t] over 4 k. A machine with two multipliers needs 24 multiplications in 12
// cycles, in which it can load 24 times; multiplications that broadcast by themselves load once
// more for each token. The assembly keeps this order at any level of optimisation: intrinsics are
// as fast at -O2, but at -O3 g++ 12 moves them and has to spill sums within the loop.
template <int T>
LIQUIDGEMM_INLINE void multiply_word(__m512i (&sum)[T][kVectors], __m512i codes0, __m512i codes1,
                                     const TileWords<T>& x, int half) {
  LIQUIDGEMM_UNROLL
  for (int t = 0; t < T; ++t) {
    const __m512i word = broadcast_word(x.word(t, half));
    multiply_add(sum[t][0], codes0, word);
    multiply_add(sum[t][1], codes1, word);
  }
}

// Weights that later panels need, asked for while the kernel computes: the memory works all the
// time and not only while packed weights are read. Each 8 k of a tile ask for kAheadBytes from
// `next`, which then moves on by `step`.
struct Ahead {
  const std::uint8_t* next;
  std::int64_t step;
};
constexpr std::int64_t kAheadBytes = 128;

LIQUIDGEMM_INLINE void prefetch_ahead(const std::uint8_t* next) {
  _mm_prefetch(next, _MM_HINT_T1);
  _mm_prefetch(next + 64, _MM_HINT_T1);
}

// The lines that the outputs of a tile will be written to: the store need not wait for them.
template <int T>
LIQUIDGEMM_INLINE void prefetch_outputs(const IntegerJob& job, std::int64_t panel,
                                        std::int64_t token0) {
  const char* out =
      job.sums ? reinterpret_cast<const char*>(job.sums) : reinterpret_cast<const char*>(job.out);
  out += 4 * (token0 * job.ld_out + panel * kPanelRows);
  for (int t = 0; t < T; ++t) {
    _mm_prefetch(out, _MM_HINT_T0);
    _mm_prefetch(out + 64, _MM_HINT_T0);
    out += 4 * job.ld_out;
  }
}

// How far ahead of their use codes that lie in L2 are asked for.
constexpr int kCachedBytes = 1024;

// sum += one 4-k step of a panel of codes.
template <int T, int kReach>
LIQUIDGEMM_INLINE void multiply_codes(__m512i (&sum)[T][kVectors], const std::uint8_t* codes,
                                      const TileWords<T>& x, int half) {
  _mm_prefetch(codes + kReach, _MM_HINT_T0);
  _mm_prefetch(codes + kReach + 64, _MM_HINT_T0);
  multiply_word(sum, _mm512_load_si512(codes), _mm512_load_si512(codes + 64), x, half);
}

// One tile against one panel of unsigned codes, which are asked for kReach bytes ahead.
template <int T, int kReach>
void run_codes_tile(const IntegerJob& job, std::int64_t panel, std::int64_t token0,
                    const std::uint8_t* codes, Ahead& ahead) {
  TileWords<T> x(job, token0);
  const std::uint8_t* next = ahead.next;
  const std::int64_t step = ahead.step;
  prefetch_outputs<T>(job, panel, token0);
  __m512i sum[T][kVectors];
  clear(sum);
  // Two words at a time: what the loop itself takes would keep the multipliers waiting.
  for (std::int64_t pair = job.k / 8; pair > 0; --pair) {
    prefetch_ahead(next);
    next += step;
    x.prefetch();
    multiply_codes<T, kReach>(sum, codes, x, 0);
    multiply_codes<T, kReach>(sum, codes + kCodesPerWord, x, 1);
    codes += 2 * kCodesPerWord;
    x.next();
  }
  if (job.k % 8 != 0) multiply_codes<T, kReach>(sum, codes, x, 0);
  ahead.next = next;
  store_tile(job, panel, token0, sum);
}

using CodesTile = void (*)(const IntegerJob&, std::int64_t panel, std::int64_t token0,
                           const std::uint8_t* codes, Ahead& ahead);
template <int kReach>
constexpr CodesTile kCodesTiles[kMaxTile + 1] = {nullptr,
                                                 run_codes_tile<1, kReach>,
                                                 run_codes_tile<2, kReach>,
                                                 run_codes_tile<3, kReach>,
                                                 run_codes_tile<4, kReach>,
                                                 run_codes_tile<5, kReach>,
                                                 run_codes_tile<6, kReach>,
                                                 run_codes_tile<7, kReach>,
                                                 run_codes_tile<8, kReach>,
                                                 run_codes_tile<9, kReach>,
                                                 run_codes_tile<10, kReach>,
                                                 run_codes_tile<11, kReach>,
                                                 run_codes_tile<12, kReach>};

// Tiles first_tile .. job.tiles - 1 against `panels` neighbouring panels of codes: a tile stays
// near while the panels pass, and the panels stay in L2 while the tiles pass.
template <int kReach>
LIQUIDGEMM_INLINE void run_codes_tiles(const IntegerJob& job, std::int64_t panel,
                                       std::int64_t panels, std::int64_t first_tile,
                                       const std::uint8_t* codes, Ahead& ahead) {
  for (std::int64_t tile = first_tile; tile < job.tiles; ++tile) {
    const std::int64_t token0 = job.m * tile / job.tiles;
    const std::int64_t height = job.m * (tile + 1) / job.tiles - token0;
    for (std::int64_t p = 0; p < panels; ++p) {
      kCodesTiles<kReach>[height](job, panel + p, token0, codes + p * kPanelRows * job.k, ahead);
    }
  }
}

// Panels of codes that half a typical L2 cache (1 MiB) holds.
LIQUIDGEMM_INLINE std::int64_t panels_in_cache(const IntegerJob& job) {
  const std::int64_t fitting = (std::int64_t{512} << 10) / (kPanelRows * job.k);
  if (fitting < 1) return 1;
  return fitting < kMaxPanels ? fitting : kMaxPanels;
}

// The panels from `panel` on, to be asked for while `tiles` tiles pass `passing` panels.
LIQUIDGEMM_INLINE Ahead look_ahead(const IntegerJob& job, std::int64_t panel, std::int64_t panels,
                                   std::int64_t tiles, std::int64_t passing) {
  const std::uint8_t* next = job.panels + panel * job.panel_bytes;
  const std::int64_t calls = tiles * passing * (job.k / 8);
  if (panels <= 0 || calls <= 0) return {job.panels, 0};
  return {next, (panels * job.panel_bytes + calls - 1) / calls};
}

}  // namespace
}  // namespace liquidgemm::cpu
