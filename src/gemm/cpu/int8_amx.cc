// INT8 weights on AMX: a packed panel is what the tiles are loaded from. One token has AVX-512's
// kernel.
#include "gemm/cpu/tiles_amx.h"

namespace liquidgemm::cpu {
namespace {

template <bool kTwo>
void run_panels(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end) {
  TokensAhead nothing;
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const std::uint8_t* codes = job.panels + panel * job.panel_bytes;
    run_tile_of_codes<kTwo, true>(job, panel, tokens_of(job, 0), codes, nothing);
    for (std::int64_t tile = 1; tile < job.tiles; ++tile) {
      run_tile_of_codes<kTwo, false>(job, panel, tokens_of(job, tile), codes, nothing);
    }
  }
}

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void* scratch) {
  if (job.m <= 1) {
    kInt8Avx512.run(job, panel_begin, panel_end, scratch);
    return;
  }
  const std::int64_t height = (job.m + job.tiles - 1) / job.tiles;
  const TileScope scope(height);
  (height > kTileRows ? run_panels<true> : run_panels<false>)(job, panel_begin, panel_end);
}

}  // namespace

const IntegerKernel kInt8Amx = {run, kTileTokens, ActivationOrder::kLines, 0, nullptr};

}  // namespace liquidgemm::cpu
