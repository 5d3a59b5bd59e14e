#include "bench/cpu/layer.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"

namespace liquidgemm::bench::cpu {
namespace {

// Eight random bytes at a time.
template <typename T>
void fill_random(std::vector<T>& bytes, std::mt19937_64& random) {
  static_assert(sizeof(T) == 1);
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t word = random();
    for (std::size_t j = i; j < std::min(i + 8, bytes.size()); ++j, word >>= 8) {
      bytes[j] = static_cast<T>(word);
    }
  }
}

}  // namespace

Result<Layer> Layer::make(const Shape& shape, WeightKind kind, int group_size, Isa isa,
                          std::uint64_t seed, std::int64_t copies, ThreadPool& pool) {
  Layer layer;
  layer.shape_ = shape;
  layer.kind_ = kind;
  layer.group_size_ = group_size;
  std::mt19937_64 random(seed);
  const auto n = static_cast<std::size_t>(shape.n);
  const auto k = static_cast<std::size_t>(shape.k);
  layer.channel_scale_.resize(n);
  for (float& scale : layer.channel_scale_) {
    scale = 1e-3f + 1e-3f * static_cast<float>(random() % 1024) / 1024.0f;
  }
  if (kind == WeightKind::kInt8) {
    layer.int8_.resize(n * k);
    fill_random(layer.int8_, random);
    // The checkpoint has no -128.
    for (std::int8_t& code : layer.int8_) code = std::max<std::int8_t>(code, -127);
  } else {
    const auto group = static_cast<std::size_t>(group_size);
    const std::size_t groups = n * ((k + group - 1) / group);
    layer.packed_.resize(n * (k / 2));
    fill_random(layer.packed_, random);
    layer.step_.resize(groups);
    layer.offset_.resize(groups);
    // The largest code, 15 * step + offset, may be 255 at most.
    for (std::size_t i = 0; i < groups; ++i) {
      const std::uint64_t step = 1 + random() % 16;
      layer.step_[i] = static_cast<std::uint8_t>(step);
      layer.offset_[i] = static_cast<std::uint8_t>(random() % (256 - 15 * step));
    }
  }
  for (std::int64_t i = 0; i < copies; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(auto linear, make_linear(layer.view(), isa, pool));
    layer.copies_.push_back(std::move(linear));
  }
  for (std::size_t i = 0; i < layer.copies_.size(); ++i) {
    layer.copies_[i]->followed_by(*layer.copies_[(i + 1) % layer.copies_.size()]);
  }
  return layer;
}

WeightView Layer::view(std::int64_t begin, std::int64_t end) const {
  WeightView view;
  view.name = shape_.name;
  view.n = end - begin;
  view.k = shape_.k;
  view.channel_scale = channel_scale_.data() + begin;
  if (kind_ == WeightKind::kInt8) {
    view.kind = WeightView::Kind::kInt8;
    view.int8 = int8_.data() + begin * shape_.k;
    return view;
  }
  const std::int64_t groups = (shape_.k + group_size_ - 1) / group_size_;
  view.group_size = group_size_;
  view.packed = packed_.data() + begin * (shape_.k / 2);
  view.step = step_.data() + begin * groups;
  view.offset = offset_.data() + begin * groups;
  return view;
}

double weight_bytes(const Shape& shape, WeightKind kind, int group_size) {
  const double scales = 4.0 * static_cast<double>(shape.n);
  if (kind == WeightKind::kLiquid4) return bench::weight_bytes(shape, group_size) + scales;
  return static_cast<double>(shape.n) * static_cast<double>(shape.k) + scales;
}

std::int64_t weight_copies(double bytes) {
  const double copies = std::ceil(static_cast<double>(Layer::kRotatedBytes) / bytes);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(copies), 2, Layer::kMostCopies);
}

}  // namespace liquidgemm::bench::cpu
