// Packed weights that come from a file: read in pieces, and checked while a piece is in the cache.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "base/status_macros.h"
#include "gemm/cpu/packed_weights.h"
#include "quant/liquid_quant.h"

namespace liquidgemm::cpu {
namespace {

using Kind = WeightView::Kind;

// One read of a worker. Well below the second-level cache, in which it is then checked.
constexpr std::int64_t kReadBytes = std::int64_t{256} << 10;
constexpr int kMaxStep = 16;
constexpr int kMaxCode = 15;
constexpr int kMaxWeight = 255;

Status bad_group(const WeightView& whole, std::int64_t row, std::int64_t group, const char* what) {
  return corrupt(whole.name + ": row " + std::to_string(row) + ", group " + std::to_string(group) +
                 ": " + what);
}

// What check_liquid_rows asks of the same weights before they are packed: 1 <= s <= 16 and
// q * s + a <= 255. Padding passes too. row0: of the panel's first row, for messages.
Status check_liquid_panel(const WeightView& whole, std::int64_t row0, const std::uint8_t* panel) {
  for (std::int64_t k = 0, group = 0; k < whole.k; k += whole.group_size, ++group) {
    const std::uint8_t* steps = panel;
    const std::uint8_t* offsets = panel + kPanelRows;
    const std::uint8_t* codes = panel + kGroupHeadBytes;
    const std::int64_t group_k = std::min<std::int64_t>(whole.group_size, whole.k - k);
    const std::int64_t chunks = round_up(group_k, kLiquidChunk) / kLiquidChunk;
    panel = codes + chunks * kChunkBytes;
    int highest = 0;
    for (int r = 0; r < kPanelRows; ++r) {
      if (steps[r] < 1 || steps[r] > kMaxStep) {
        return bad_group(whole, row0 + r, group, "the step is not 1 to 16");
      }
      highest = std::max(highest, kMaxCode * steps[r] + offsets[r]);
    }
    if (highest <= kMaxWeight) continue;  // no code can pass it
    std::array<std::uint8_t, kPanelRows> largest{};
    for (std::int64_t i = 0; i < chunks * kChunkBytes; ++i) {
      std::uint8_t& most = largest[static_cast<std::size_t>(i % kChunkBytes / 4)];
      most = std::max({most, static_cast<std::uint8_t>(codes[i] & 0x0F),
                       static_cast<std::uint8_t>(codes[i] >> 4)});
    }
    for (int r = 0; r < kPanelRows; ++r) {
      if (largest[static_cast<std::size_t>(r)] * steps[r] + offsets[r] > kMaxWeight) {
        return bad_group(whole, row0 + r, group,
                         "a code times the step plus the offset is above "
                         "255");
      }
    }
  }
  return ok_status();
}

Status check_float_panel(const WeightView& whole, std::span<const std::uint8_t> panel) {
  const std::span<const float> values(reinterpret_cast<const float*>(panel.data()),
                                      panel.size() / sizeof(float));
  const bool finite =
      std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  return finite ? ok_status() : corrupt(whole.name + ": a weight is not a finite number");
}

Status check_fp16_panel(const WeightView& whole, std::span<const std::uint8_t> panel) {
  return fp16_finite(panel) ? ok_status()
                            : corrupt(whole.name + ": a weight is not a finite number");
}

Status check_panel(const WeightView& whole, std::int64_t row0,
                   std::span<const std::uint8_t> panel) {
  switch (whole.kind) {
    case Kind::kLiquid4: return check_liquid_panel(whole, row0, panel.data());
    case Kind::kInt8: return ok_status();  // any byte is a weight
    case Kind::kFloat: return check_float_panel(whole, panel);
    case Kind::kFp16: return check_fp16_panel(whole, panel);
  }
  return ok_status();
}

}  // namespace

Result<PackedWeights> read_packed_weights(const WeightView& whole, int panel_rows, ThreadPool& pool,
                                          HugePageMemory* memory, PackedReader& reader) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(PackedWeights packed, allocate_packed(whole, panel_rows, memory));
  if (whole.kind != Kind::kFloat && whole.kind != Kind::kFp16) {
    const std::span<float> scales(packed.channel_scale.as<float>(),
                                  static_cast<std::size_t>(whole.n));
    LIQUIDGEMM_RETURN_IF_ERROR(reader.read_scales(scales));
    LIQUIDGEMM_RETURN_IF_ERROR(check_int8_scales(scales, whole.name));
  }
  const std::int64_t bytes = packed.panel_bytes;
  const std::int64_t together = std::max<std::int64_t>(1, kReadBytes / bytes);
  const auto read = [&](std::int64_t begin, std::int64_t end) -> Status {
    for (std::int64_t first = begin; first < end; first += together) {
      const std::int64_t count = std::min(together, end - first);
      const std::span<std::uint8_t> into(packed.data.get() + first * bytes,
                                         static_cast<std::size_t>(count * bytes));
      LIQUIDGEMM_RETURN_IF_ERROR(reader.read_panels(first, into));
      for (std::int64_t panel = 0; panel < count; ++panel) {
        LIQUIDGEMM_RETURN_IF_ERROR(check_panel(whole, (first + panel) * panel_rows,
                                               into.subspan(static_cast<std::size_t>(panel * bytes),
                                                            static_cast<std::size_t>(bytes))));
      }
    }
    return ok_status();
  };
  std::mutex mutex;
  Status failure;
  pool.parallel_for(packed.panels, 1, [&](std::int64_t begin, std::int64_t end, int) {
    Status status = read(begin, end);
    if (status.ok()) return;
    std::lock_guard lock(mutex);
    if (failure.ok()) failure = std::move(status);
  });
  if (!failure.ok()) return failure;
  return packed;
}

}  // namespace liquidgemm::cpu
