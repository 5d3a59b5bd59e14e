// INT8 weights on AVX-512 VNNI: a packed panel is what the microkernel reads.
#include "gemm/cpu/integer_tile_avx512.h"

namespace liquidgemm::cpu {
namespace {

void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void*) {
  const std::int64_t most = panels_in_cache(job);
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += most) {
    const std::int64_t panels = panel_end - panel < most ? panel_end - panel : most;
    const std::int64_t left = panel_end - panel - panels;
    Ahead ahead = look_ahead(job, panel + panels, left < most ? left : most, job.tiles, panels);
    run_codes_tiles<kPrefetchBytes>(job, panel, panels, 0, job.panels + panel * job.panel_bytes,
                                    ahead);
  }
}

}  // namespace

const IntegerKernel kInt8Avx512 = {run, kMaxTile, ActivationOrder::kQuads, 0, nullptr};

}  // namespace liquidgemm::cpu
