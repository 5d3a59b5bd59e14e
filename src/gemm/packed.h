// Packed weights that outlive a run: what the kernels of a matrix read, handed out to be kept and
// taken back later without packing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "gemm/gemm.h"

namespace liquidgemm {

// Raise it when packing gives other bytes than before (cpu/packed_weights.h).
inline constexpr std::uint32_t kPackedLayoutVersion = 1;

// Panels of output rows, one after the other.
struct PackedLayout {
  std::int64_t panels = 0;
  std::int64_t panel_bytes = 0;
  std::int64_t bytes() const { return panels * panel_bytes; }
};

// A packed matrix, borrowed from its CpuLinear.
struct PackedView {
  WeightView::Kind kind = WeightView::Kind::kLiquid4;
  std::int64_t n = 0;
  std::int64_t k = 0;
  int group_size = 0;  // kLiquid4 only
  PackedLayout layout;
  const std::uint8_t* panels = nullptr;
  std::span<const float> channel_scale;  // [n]; empty for kFloat and kFp16
};

// Where a kept matrix comes back from.
class PackedReader {
 public:
  virtual ~PackedReader() = default;
  // Whole panels, `first` and as many more as fill `into`. From several threads at once, and every
  // panel once.
  virtual Status read_panels(std::int64_t first, std::span<std::uint8_t> into) = 0;
  virtual Status read_scales(std::span<float> into) = 0;
};

// Of matrices stacked along N, of which only the shape is looked at; their data may be missing.
Result<PackedLayout> packed_layout(std::span<const WeightView> parts, Isa isa);

// As make_linear, but what it would pack is read. All that the kernels rely on is checked again:
// this is a file like any other. `parts` as for packed_layout.
Result<std::unique_ptr<CpuLinear>> read_linear(std::span<const WeightView> parts, Isa isa,
                                               ThreadPool& pool, HugePageMemory* memory,
                                               PackedReader& reader);

}  // namespace liquidgemm
