// INT32 sums in plain C++, for machines without AVX2 and for other architectures.
//
// A panel is decoded once into INT16, 32 rows side by side for every k; then each token runs over
// it. The inner loop has a fixed length over neighbouring rows, which compilers turn into whatever
// vectors the baseline machine has.
#include <algorithm>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/packed_weights.h"
#include "gemm/numerics.h"

namespace liquidgemm::cpu {
namespace {

using Decode = void (*)(const IntegerJob& job, const std::uint8_t* panel, std::int16_t* codes);

// codes[k][row] = q * s + a
void decode_liquid4(const IntegerJob& job, const std::uint8_t* panel, std::int16_t* codes) {
  for (std::int64_t k = 0; k < job.k; k += job.group_size) {
    const std::uint8_t* step = panel;
    const std::uint8_t* offset = panel + kPanelRows;
    panel += kGroupHeadBytes;
    const std::int64_t end = std::min(k + job.group_size, job.k);
    for (std::int64_t chunk = k; chunk < end; chunk += kLiquidChunk) {
      for (int j = 0; j < 4; ++j) {
        std::int16_t* low = codes + (chunk + j) * kPanelRows;
        std::int16_t* high = low + 4 * kPanelRows;
        for (int r = 0; r < kPanelRows; ++r) {
          const int pair = panel[4 * r + j];
          low[r] = static_cast<std::int16_t>((pair & 0x0F) * step[r] + offset[r]);
          high[r] = static_cast<std::int16_t>((pair >> 4) * step[r] + offset[r]);
        }
      }
      panel += kChunkBytes;
    }
  }
}

// codes[k][row] = w8 + 128
void decode_int8(const IntegerJob& job, const std::uint8_t* panel, std::int16_t* codes) {
  for (std::int64_t k = 0; k < job.k; ++k) {
    const std::uint8_t* chunk = panel + k / kInt8Chunk * kChunkBytes + k % kInt8Chunk;
    for (int r = 0; r < kPanelRows; ++r) codes[k * kPanelRows + r] = chunk[4 * r];
  }
}

// max_tile is 1, so a tile is a row of x.
void run_token(const IntegerJob& job, std::int64_t token, std::int64_t row0,
               const std::int16_t* codes) {
  const std::int8_t* x = static_cast<const std::int8_t*>(job.x) + token * job.k;
  std::int32_t sum[kPanelRows] = {};
  for (std::int64_t k = 0; k < job.k; ++k) {
    const std::int16_t value = x[k];
    for (int r = 0; r < kPanelRows; ++r) sum[r] += codes[k * kPanelRows + r] * value;
  }
  const std::int64_t rows = std::min<std::int64_t>(kPanelRows, job.n - row0);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t accumulator = sum[r] - 128 * job.row_sum[token];
    const std::int64_t at = token * job.ld_out + row0 + r;
    if (job.sums) {
      job.sums[at] = accumulator;
    } else {
      const float y =
          numerics::scale_output(accumulator, job.row_scale[token], job.channel_scale[row0 + r]);
      job.out[at] = job.bias ? y + job.bias[row0 + r] : y;
    }
  }
}

template <Decode kDecode>
void run(const IntegerJob& job, std::int64_t panel_begin, std::int64_t panel_end, void* scratch) {
  auto* codes = static_cast<std::int16_t*>(scratch);
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    kDecode(job, job.panels + panel * job.panel_bytes, codes);
    for (std::int64_t token = 0; token < job.m; ++token) {
      run_token(job, token, panel * kPanelRows, codes);
    }
  }
}

std::int64_t scratch_bytes(std::int64_t k) { return 2 * kPanelRows * k; }

}  // namespace

const IntegerKernel kLiquid4Scalar = {run<decode_liquid4>, 1, ActivationOrder::kQuads, 0,
                                      scratch_bytes};
const IntegerKernel kInt8Scalar = {run<decode_int8>, 1, ActivationOrder::kQuads, 0, scratch_bytes};

}  // namespace liquidgemm::cpu
