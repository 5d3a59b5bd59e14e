#include "gemm/cpu/packed_weights.h"

#include <algorithm>
#include <cstring>

namespace liquidgemm::cpu {
namespace {

void pack_liquid_panel(const WeightView& weight, std::int64_t row0, std::uint8_t* panel) {
  const std::int64_t groups = (weight.k + weight.group_size - 1) / weight.group_size;
  const std::int64_t rows = std::min<std::int64_t>(kPanelRows, weight.n - row0);
  for (std::int64_t group = 0; group < groups; ++group) {
    std::memset(panel, 1, kPanelRows);
    std::memset(panel + kPanelRows, 0, kPanelRows);
    for (std::int64_t r = 0; r < rows; ++r) {
      panel[r] = weight.step[(row0 + r) * groups + group];
      panel[kPanelRows + r] = weight.offset[(row0 + r) * groups + group];
    }
    panel += kGroupHeadBytes;
    const std::int64_t k_end = std::min(weight.k, (group + 1) * weight.group_size);
    for (std::int64_t k = group * weight.group_size; k < k_end; k += kLiquidChunk) {
      std::memset(panel, 0, kChunkBytes);
      const std::int64_t pairs = std::min(kLiquidChunk, k_end - k) / 2;
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::uint8_t* pair = weight.packed + (row0 + r) * (weight.k / 2) + k / 2;
        // Pair p holds k + 2p and k + 2p + 1; from the third pair on they are high nibbles.
        for (std::int64_t p = 0; p < pairs; ++p) {
          std::uint8_t* word = panel + 4 * r + 2 * (p % 2);
          const int shift = p < 2 ? 0 : 4;
          word[0] = static_cast<std::uint8_t>(word[0] | (pair[p] & 0x0F) << shift);
          word[1] = static_cast<std::uint8_t>(word[1] | (pair[p] >> 4) << shift);
        }
      }
      panel += kChunkBytes;
    }
  }
}

void pack_int8_panel(const WeightView& weight, std::int64_t row0, std::uint8_t* panel) {
  const std::int64_t rows = std::min<std::int64_t>(kPanelRows, weight.n - row0);
  for (std::int64_t k = 0; k < weight.k; k += kInt8Chunk) {
    std::memset(panel, 128, kChunkBytes);
    const std::int64_t count = std::min(kInt8Chunk, weight.k - k);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int8_t* row = weight.int8 + (row0 + r) * weight.k + k;
      for (std::int64_t j = 0; j < count; ++j) {
        panel[4 * r + j] = static_cast<std::uint8_t>(row[j] + 128);
      }
    }
    panel += kChunkBytes;
  }
}

void pack_float_panel(const WeightView& weight, std::int64_t row0, int panel_rows, float* panel) {
  const std::int64_t rows = std::min<std::int64_t>(panel_rows, weight.n - row0);
  // Blocks of k keep the lines of all rows in the cache while the panel is written in order.
  constexpr std::int64_t kBlock = 16;
  for (std::int64_t k0 = 0; k0 < weight.k; k0 += kBlock) {
    const std::int64_t k1 = std::min(weight.k, k0 + kBlock);
    for (std::int64_t r = 0; r < panel_rows; ++r) {
      const float* row = weight.f32 + (row0 + std::min(r, rows - 1)) * weight.k;
      for (std::int64_t k = k0; k < k1; ++k) panel[k * panel_rows + r] = r < rows ? row[k] : 0.0f;
    }
  }
}

}  // namespace

Result<PackedWeights> pack_weights(const WeightView& weight, int panel_rows, ThreadPool& pool) {
  PackedWeights packed;
  packed.panels = (weight.n + panel_rows - 1) / panel_rows;
  packed.k_padded = weight.k;
  std::int64_t panel_bytes = 0;
  bool fits = true;
  switch (weight.kind) {
    case WeightView::Kind::kLiquid4: {
      const std::int64_t groups = (weight.k + weight.group_size - 1) / weight.group_size;
      packed.k_padded = round_up(weight.k, kLiquidChunk);
      panel_bytes = groups * kGroupHeadBytes + packed.k_padded / kLiquidChunk * kChunkBytes;
      break;
    }
    case WeightView::Kind::kInt8:
      packed.k_padded = round_up(weight.k, kInt8Chunk);
      panel_bytes = packed.k_padded / kInt8Chunk * kChunkBytes;
      break;
    case WeightView::Kind::kFloat:
      fits =
          !__builtin_mul_overflow(weight.k, panel_rows * std::int64_t{sizeof(float)}, &panel_bytes);
      break;
  }
  packed.panel_bytes = panel_bytes;
  std::int64_t bytes = 0;
  fits = fits && !__builtin_mul_overflow(packed.panels, panel_bytes, &bytes);
  const bool integer = weight.kind != WeightView::Kind::kFloat;
  const std::size_t scales = static_cast<std::size_t>(packed.panels) * panel_rows;
  if (!fits || !packed.data.reserve(static_cast<std::size_t>(bytes)) ||
      (integer && !packed.channel_scale.reserve(scales * sizeof(float)))) {
    return resource_exhausted(weight.name + ": no memory for the packed weights (" +
                              std::to_string(weight.n) + " x " + std::to_string(weight.k) + ")");
  }

  pool.parallel_for(packed.panels, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      std::uint8_t* panel = packed.data.as<std::uint8_t>() + p * panel_bytes;
      switch (weight.kind) {
        case WeightView::Kind::kLiquid4: pack_liquid_panel(weight, p * panel_rows, panel); break;
        case WeightView::Kind::kInt8: pack_int8_panel(weight, p * panel_rows, panel); break;
        case WeightView::Kind::kFloat:
          pack_float_panel(weight, p * panel_rows, panel_rows, reinterpret_cast<float*>(panel));
          break;
      }
    }
  });
  if (integer) {
    float* scale = packed.channel_scale.as<float>();
    std::fill(scale, scale + scales, 0.0f);
    std::copy(weight.channel_scale, weight.channel_scale + weight.n, scale);
  }
  return packed;
}

}  // namespace liquidgemm::cpu
