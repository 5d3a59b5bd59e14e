#include "model/checkpoint/dithered_source.h"

#include <algorithm>
#include <utility>

#include "base/splitmix64.h"
#include "base/status_macros.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kBlock = 32;

// Uniform in [-0.5, 0.5).
float centered_uniform(std::uint64_t bits) {
  return static_cast<float>(static_cast<double>(bits >> 40) * 0x1p-24 - 0.5);
}

class DitheredSource final : public TensorSource {
 public:
  DitheredSource(std::unique_ptr<TensorSource> source, std::uint64_t seed)
      : source_(std::move(source)), seed_(seed) {}

  const std::vector<TensorInfo>& tensors() const override { return source_->tensors(); }
  Result<std::span<const std::byte>> bytes(std::string_view name) const override {
    return source_->bytes(name);
  }
  void release(std::string_view name) const override { source_->release(name); }
  const std::string& where() const override { return source_->where(); }

  Status read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                   float* out) const override {
    LIQUIDGEMM_RETURN_IF_ERROR(source_->read_rows(name, first, count, out));
    LIQUIDGEMM_ASSIGN_OR_RETURN(const TensorInfo* info, require(name));
    if (info->dtype != DType::kQ4_0 && info->dtype != DType::kQ4_1) return ok_status();
    const std::uint64_t key = splitmix64_key(seed_, name);
    const std::int64_t width = info->shape.back();
    for (std::int64_t row = 0; row < count; ++row) {
      for (std::int64_t block = 0; block < width; block += kBlock) {
        add_noise(out + row * width + block, info->dtype, key,
                  static_cast<std::uint64_t>((first + row) * width + block));
      }
    }
    return ok_status();
  }

 private:
  // The step of a block's grid, from its values alone. Q4_1 puts its smallest value on level 0 and
  // its largest on level 15; Q4_0 puts the value of largest magnitude on level -8.
  static float block_step(const float* values, DType dtype) {
    const auto [low, high] = std::minmax_element(values, values + kBlock);
    if (dtype == DType::kQ4_1) return (*high - *low) / 15.0f;
    return std::max(*high, -*low) / 8.0f;
  }

  static void add_noise(float* values, DType dtype, std::uint64_t key, std::uint64_t counter) {
    const float step = block_step(values, dtype);
    for (std::int64_t i = 0; i < kBlock; ++i) {
      values[i] +=
          step *
          centered_uniform(splitmix64(key ^ splitmix64(counter + static_cast<std::uint64_t>(i))));
    }
  }

  std::unique_ptr<TensorSource> source_;
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<TensorSource> dither(std::unique_ptr<TensorSource> source, std::uint64_t seed) {
  return std::make_unique<DitheredSource>(std::move(source), seed);
}

}  // namespace liquidgemm
