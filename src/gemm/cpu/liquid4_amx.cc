// 4-bit weights on AMX. The first tile of tokens decodes a panel, 64 k ahead of its own
// multiplications; when other tiles follow, the codes stay for them in L2. One token has AVX-512's
// kernel, which decodes nothing.
#include "gemm/cpu/liquid4_decode_avx512.h"
#include "gemm/cpu/tiles_amx.h"

namespace liquidgemm::cpu {
namespace {

// Panels of codes pass one tile of tokens together, then the next: as many as a quarter of an L2
// cache of 2 MiB holds, which every processor with AMX has and often shares with another thread.
constexpr std::int64_t kPassingBytes = std::int64_t{512} << 10;
constexpr std::int64_t kMostPassing = 8;

// Tokens that do not stay in L2 beside the codes. Their tiles then come from a shared cache every
// time: they are asked for, and at least two panels pass each.
constexpr std::int64_t kManyTokenBytes = std::int64_t{1536} << 10;
LIQUIDGEMM_INLINE bool many_tokens(const IntegerJob& job) {
  return job.m * whole_lines(job.k) > kManyTokenBytes;
}

std::int64_t passing_panels(std::int64_t k, std::int64_t at_least) {
  const std::int64_t fitting = kPassingBytes / (kPanelRows * whole_lines(k));
  if (fitting < at_least) return at_least;
  return fitting < kMostPassing ? fitting : kMostPassing;
}

std::int64_t scratch_bytes(std::int64_t k) {
  return passing_panels(k, 2) * kPanelRows * whole_lines(k);
}

// The packed weights of a panel, up to where they have been decoded.
struct PanelReader {
  const std::uint8_t* packed;
  std::int64_t k;
  std::int64_t chunks;  // left of the group
  GroupHead head;
  Reach reach;
};

// The next 64 k, or what is left. Behind that `codes` keeps what it held: it meets zeros.
LIQUIDGEMM_INLINE void decode_block(const IntegerJob& job, const WeightStream& stream,
                                    PanelReader& reader, std::uint8_t* codes) {
  std::int64_t left = (job.k - reader.k < kLine ? job.k - reader.k : kLine) / kChunk;
  while (left > 0) {
    if (reader.chunks == 0) {
      reader.chunks = chunks_of_group(job, reader.k);
      reader.reach = reach_of_group(stream, reader.packed);
      prefetch<kHeadLines, true>(reader.packed, reader.reach);
      reader.head = load_head(reader.packed);
      reader.packed += 2 * kPanelRows;
    }
    const std::int64_t count = left < reader.chunks ? left : reader.chunks;
    for (std::int64_t i = 0; i < count; ++i) {
      decode_chunk(reader.packed, reader.reach, reader.head, codes);
      reader.packed += 2 * 64;
      codes += kChunkCodes;
    }
    reader.k += count * kChunk;
    reader.chunks -= count;
    left -= count;
  }
}

// kStore: the whole panel stays at `codes`; otherwise two blocks take turns there.
template <bool kTwo, bool kStore>
void run_packed_tile(const IntegerJob& job, std::int64_t panel, const WeightStream& stream,
                     const TileTokens& tokens, std::uint8_t* codes, TokensAhead& ahead) {
  PanelReader reader = {};
  reader.packed = job.panels + panel * job.panel_bytes;
  clear_sums<kTwo>();
  decode_block(job, stream, reader, codes);
  const std::int8_t* x = tokens.x;
  std::int64_t at = 0;
  for (std::int64_t k = 0; k < job.k; k += kLine) {
    const std::uint8_t* from = codes + at;
    at = kStore ? at + kBlockBytes : at ^ kBlockBytes;
    if (reader.k < job.k) decode_block(job, stream, reader, codes + at);
    if constexpr (kStore) prefetch_tokens(ahead);
    multiply_block<kTwo>(x, from);
    x += tokens.height * kLine;
  }
  store_outputs<kTwo>(job, panel, tokens);
}

template <bool kTwo>
void run_one_tile(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end) {
  const WeightStream stream = weight_stream(job, panel_end);
  const TileTokens tokens = tokens_of(job, 0);
  alignas(64) std::uint8_t codes[2 * kBlockBytes] = {};
  TokensAhead nothing;
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    run_packed_tile<kTwo, false>(job, panel, stream, tokens, codes, nothing);
  }
}

// All of a tile's tokens, asked for while `panels` panels of as many blocks pass the one before it.
LIQUIDGEMM_INLINE TokensAhead tokens_ahead(const TileTokens& tokens, std::int64_t blocks,
                                           std::int64_t panels) {
  return {tokens.x, tokens.x + tokens.height * blocks * kLine,
          (tokens.height + panels - 1) / panels};
}

// Tiles of more than 16 tokens each.
void run_tiles(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end,
               std::uint8_t* codes) {
  const WeightStream stream = weight_stream(job, panel_end);
  const bool many = many_tokens(job);
  const std::int64_t most = passing_panels(job.k, many ? 2 : 1);
  const std::int64_t blocks = whole_lines(job.k) / kLine;
  const std::int64_t panel_codes = blocks * kBlockBytes;
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += most) {
    const std::int64_t panels = panel_end - panel < most ? panel_end - panel : most;
    for (std::int64_t tile = 0; tile < job.tiles; ++tile) {
      const TileTokens tokens = tokens_of(job, tile);
      TokensAhead ahead;
      if (many) ahead = tokens_ahead(tokens_of(job, (tile + 1) % job.tiles), blocks, panels);
      for (std::int64_t p = 0; p < panels; ++p) {
        std::uint8_t* of_panel = codes + p * panel_codes;
        if (tile == 0) {
          run_packed_tile<true, true>(job, panel + p, stream, tokens, of_panel, ahead);
        } else {
          run_tile_of_codes<true, false>(job, panel + p, tokens, of_panel, ahead);
        }
      }
    }
  }
}

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void* scratch) {
  if (job.m <= 1) {
    kLiquid4Avx512.run(job, panel_begin, panel_end, scratch);
    return;
  }
  const std::int64_t height = (job.m + job.tiles - 1) / job.tiles;
  const TileScope scope(height);
  if (job.tiles == 1) {
    (height > kTileRows ? run_one_tile<true> : run_one_tile<false>)(job, panel_begin, panel_end);
  } else {
    run_tiles(job, panel_begin, panel_end, static_cast<std::uint8_t*>(scratch));
  }
}

}  // namespace

const IntegerKernel kLiquid4Amx = {run, kTileTokens, ActivationOrder::kLines, 1, scratch_bytes};

}  // namespace liquidgemm::cpu
