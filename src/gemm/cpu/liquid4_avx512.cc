// 4-bit weights on AVX-512 VNNI.
//
// One token: the factored form sum_groups s * (sum q * x) + a * (sum x), which never decodes.
// More tokens: the first tile decodes in registers and, when other tiles follow, stores the panel's
// codes (32 rows x K, in the L2 cache) for them.
#include "gemm/cpu/integer_tile_avx512.h"
#include "gemm/cpu/liquid4_decode_avx512.h"

namespace liquidgemm::cpu {
namespace {

// With one token the multipliers wait for the memory anyway, and asking twice only costs; but what
// it has brought of the next product when this one ends shortens a small product.
constexpr std::int64_t kSmallBytes = 16 * kFarBytes;

// ---- One token ---------------------------------------------------------------------------------

template <bool kTwice>
void run_panel_one(const IntegerJob& job, std::int64_t panel, const WeightStream& stream) {
  const std::uint8_t* packed = job.panels + panel * job.panel_bytes;
  const std::int8_t* x = static_cast<const std::int8_t*>(job.x);
  const std::int16_t* group_sum = job.group_sums;
  const __m512i low_mask = _mm512_set1_epi8(0x0F);
  const __m512i high_mask = _mm512_set1_epi8(static_cast<char>(0xF0));
  __m512i sum[1][kVectors];
  clear(sum);
  for (std::int64_t k = 0; k < job.k; k += job.group_size) {
    // The high nibbles stay where they are: their products are 16 times too large, and the sum
    // over the group (below 2^24) is shifted once.
    const std::uint8_t* head = packed;
    const Reach ahead = reach_of_group(stream, packed);
    prefetch<kHeadLines, kTwice>(head, ahead);
    __m512i low[1][kVectors];
    __m512i high[1][kVectors];
    clear(low);
    clear(high);
    packed += 2 * kPanelRows;
    for (std::int64_t chunk = chunks_of_group(job, k); chunk > 0; --chunk) {
      prefetch<kChunkLines, kTwice>(packed, ahead);
      const __m512i x_low = broadcast_word(x);
      const __m512i x_high = broadcast_word(x + 4);
      LIQUIDGEMM_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const __m512i pairs = _mm512_load_si512(packed + 64 * v);
        low[0][v] = _mm512_dpbusd_epi32(low[0][v], _mm512_and_si512(pairs, low_mask), x_low);
        high[0][v] = _mm512_dpbusd_epi32(high[0][v], _mm512_and_si512(pairs, high_mask), x_high);
      }
      packed += 2 * 64;
      x += kChunk;
    }
    // a * sum_x as a 16-bit pair product: the upper half of each lane is zero.
    const __m512i x_sum = _mm512_set1_epi32(static_cast<std::uint16_t>(*group_sum++));
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i products = _mm512_add_epi32(low[0][v], _mm512_srai_epi32(high[0][v], 4));
      const __m512i stepped = _mm512_mullo_epi32(products, widen_rows(head + 16 * v));
      sum[0][v] = _mm512_add_epi32(sum[0][v], stepped);
      sum[0][v] = _mm512_dpwssd_epi32(sum[0][v], widen_rows(head + kPanelRows + 16 * v), x_sum);
    }
  }
  store_tile(job, panel, 0, sum);
}

// ---- Several tokens ----------------------------------------------------------------------------

// The first tile of a panel. Each chunk is decoded before the one in front of it is multiplied, so
// that the latency of one hides behind the other; the codes pass through memory because the sums
// leave no registers. With kStore the whole decoded panel stays at `codes`.
template <int T, bool kStore>
void run_packed_tile(const IntegerJob& job, std::int64_t panel, const WeightStream& stream,
                     std::uint8_t* codes, Ahead& ahead) {
  const std::uint8_t* packed = job.panels + panel * job.panel_bytes;
  TileWords<T> x(job, 0);
  const std::uint8_t* next = ahead.next;
  const std::int64_t step = ahead.step;
  prefetch_outputs<T>(job, panel, 0);
  __m512i sum[T][kVectors];
  clear(sum);
  alignas(64) std::uint8_t two_chunks[2 * kChunkCodes];
  std::uint8_t* const decoded = kStore ? codes : two_chunks;
  GroupHead head = load_head(packed);
  Reach reach = reach_of_group(stream, packed);
  packed += 2 * kPanelRows;
  decode_chunk(packed, reach, head, decoded);
  packed += 2 * 64;
  std::int64_t k = 0;
  std::int64_t left_of_group = chunks_of_group(job, k) - 1;
  std::int64_t at = 0;
  for (std::int64_t left = job.k / kChunk - 1; left >= 0; --left) {
    const std::uint8_t* from = decoded + at;
    at = kStore ? at + kChunkCodes : at ^ kChunkCodes;
    if (left > 0) {
      if (left_of_group == 0) {
        k += job.group_size;
        left_of_group = chunks_of_group(job, k);
        reach = reach_of_group(stream, packed);
        prefetch<kHeadLines, true>(packed, reach);
        head = load_head(packed);
        packed += 2 * kPanelRows;
      }
      --left_of_group;
      decode_chunk(packed, reach, head, decoded + at);
      packed += 2 * 64;
    }
    if (kStore) {
      prefetch_ahead(next);
      next += step;
    }
    LIQUIDGEMM_UNROLL
    for (int half = 0; half < 2; ++half) {
      multiply_word(sum, _mm512_load_si512(from), _mm512_load_si512(from + 64), x, half);
      from += kCodesPerWord;
    }
    x.next();
  }
  ahead.next = next;
  store_tile(job, panel, 0, sum);
}

using PackedTile = void (*)(const IntegerJob&, std::int64_t panel, const WeightStream& stream,
                            std::uint8_t* codes, Ahead& ahead);
template <bool kStore>
constexpr PackedTile kPackedTiles[kMaxTile + 1] = {nullptr,
                                                   run_packed_tile<1, kStore>,
                                                   run_packed_tile<2, kStore>,
                                                   run_packed_tile<3, kStore>,
                                                   run_packed_tile<4, kStore>,
                                                   run_packed_tile<5, kStore>,
                                                   run_packed_tile<6, kStore>,
                                                   run_packed_tile<7, kStore>,
                                                   run_packed_tile<8, kStore>,
                                                   run_packed_tile<9, kStore>,
                                                   run_packed_tile<10, kStore>,
                                                   run_packed_tile<11, kStore>,
                                                   run_packed_tile<12, kStore>};

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void* scratch) {
  auto* codes = static_cast<std::uint8_t*>(scratch);
  const std::int64_t height = job.m / job.tiles;  // of the first tile
  const std::int64_t most = panels_in_cache(job);
  const WeightStream stream = weight_stream(job, panel_end);
  const bool small = (panel_end - panel_begin) * job.panel_bytes <= kSmallBytes;
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += most) {
    const std::int64_t panels = panel_end - panel < most ? panel_end - panel : most;
    // A single tile leaves no time in which the memory would wait.
    const std::int64_t left = job.tiles > 1 ? panel_end - panel - panels : 0;
    Ahead ahead = look_ahead(job, panel + panels, left < most ? left : most, job.tiles, panels);
    for (std::int64_t p = 0; p < panels; ++p) {
      if (job.m == 1) {
        (small ? run_panel_one<true> : run_panel_one<false>)(job, panel + p, stream);
      } else if (job.tiles == 1) {
        kPackedTiles<false>[height](job, panel + p, stream, nullptr, ahead);
      } else {
        kPackedTiles<true>[height](job, panel + p, stream, codes + p * kPanelRows * job.k, ahead);
      }
    }
    if (job.tiles > 1) run_codes_tiles<kCachedBytes>(job, panel, panels, 1, codes, ahead);
  }
}

std::int64_t scratch_bytes(std::int64_t k) { return kMaxPanels * kPanelRows * k; }

}  // namespace

const IntegerKernel kLiquid4Avx512 = {run, kMaxTile, ActivationOrder::kQuads, 1, scratch_bytes};

}  // namespace liquidgemm::cpu
