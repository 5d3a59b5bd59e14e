#include "model/checkpoint/dithered_source.h"

#include <gtest/gtest.h>

#include <cmath>

namespace liquidgemm {
namespace {

// Two tensors of 8 rows of 64: one on a Q4_1 grid of 0.5 from -3, one float.
class GridSource final : public TensorSource {
 public:
  static constexpr float kStep = 0.5f;
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  Result<std::span<const std::byte>> bytes(std::string_view) const override {
    return internal_error("not used");
  }
  Status read_rows(std::string_view, std::int64_t first, std::int64_t count,
                   float* out) const override {
    for (std::int64_t i = first * 64; i < (first + count) * 64; ++i) {
      // Every block of 32 holds levels 0 and 15, as a quantizer leaves it.
      const std::int64_t level = i % 32 == 0 ? 0 : i % 32 == 1 ? 15 : i * 7 % 16;
      *out++ = -3.0f + kStep * static_cast<float>(level);
    }
    return ok_status();
  }
  void release(std::string_view) const override {}
  const std::string& where() const override { return where_; }

 private:
  std::vector<TensorInfo> tensors_{{"grid", DType::kQ4_1, {8, 64}, 8 * 40},
                                   {"plain", DType::kF32, {8, 64}, 8 * 256}};
  std::string where_ = "memory";
};

std::vector<float> rows_of(const TensorSource& source, const char* name, std::int64_t first,
                           std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count * 64));
  EXPECT_TRUE(source.read_rows(name, first, count, values.data()).ok());
  return values;
}

TEST(Dither, AddsUniformNoiseOfHalfAStepToBlockWeightsOnly) {
  const auto dithered = dither(std::make_unique<GridSource>(), 1);
  const GridSource plain;
  EXPECT_EQ(rows_of(*dithered, "plain", 0, 8), rows_of(plain, "plain", 0, 8));
  const auto before = rows_of(plain, "grid", 0, 8);
  const auto after = rows_of(*dithered, "grid", 0, 8);
  double sum = 0.0;
  double squares = 0.0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double noise = double{after[i]} - double{before[i]};
    EXPECT_LE(std::fabs(noise), 0.5 * GridSource::kStep + 1e-6);
    sum += noise;
    squares += noise * noise;
  }
  const auto count = static_cast<double>(before.size());
  EXPECT_NEAR(sum / count, 0.0, 0.03);
  EXPECT_NEAR(squares / count, GridSource::kStep * GridSource::kStep / 12.0, 0.004);
}

TEST(Dither, DependsOnTheSeedAndThePlaceOnly) {
  const auto one = dither(std::make_unique<GridSource>(), 1);
  const auto two = dither(std::make_unique<GridSource>(), 2);
  const auto whole = rows_of(*one, "grid", 0, 8);
  EXPECT_NE(whole, rows_of(*two, "grid", 0, 8));
  // The same rows read one by one.
  for (std::int64_t row = 0; row < 8; ++row) {
    const auto part = rows_of(*one, "grid", row, 1);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + row * 64));
  }
}

}  // namespace
}  // namespace liquidgemm
