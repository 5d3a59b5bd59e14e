// Random weights and activations for the GEMM tests: valid, odd and extreme ones.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "fresh_seed.h"
#include "gemm/gemm.h"
#include "gemm/quantize_rows.h"

namespace liquidgemm::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

using Random = std::mt19937_64;

inline std::int64_t pick(Random& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

// The instruction sets of this machine.
inline std::vector<Isa> machine_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas) {
    if (check_isa(isa).ok()) isas.push_back(isa);
  }
  return isas;
}

// What the codes of a layer look like.
enum class Extreme {
  kNone,     // random steps, offsets and codes
  kHighest,  // q * s + a = 255 everywhere, through s = 16 or s = 1
  kLowest,   // q * s + a = 0 everywhere
};

struct Layer {
  WeightView::Kind kind = WeightView::Kind::kLiquid4;
  std::int64_t n = 0;
  std::int64_t k = 0;
  int group_size = 64;
  std::vector<std::uint8_t> packed, step, offset;
  std::vector<std::int8_t> int8;
  std::vector<float> f32;
  std::vector<std::uint8_t> f16;  // from the second byte on: values may begin anywhere
  std::vector<float> channel_scale;

  WeightView view() const {
    WeightView view;
    view.kind = kind;
    view.name = "test.layer";
    view.n = n;
    view.k = k;
    view.group_size = group_size;
    if (kind == WeightView::Kind::kLiquid4) {
      view.packed = packed.data();
      view.step = step.data();
      view.offset = offset.data();
    }
    if (kind == WeightView::Kind::kInt8) view.int8 = int8.data();
    if (kind == WeightView::Kind::kFloat) view.f32 = f32.data();
    if (kind == WeightView::Kind::kFp16) view.f16 = f16.data() + 1;
    if (!channel_scale.empty()) view.channel_scale = channel_scale.data();
    return view;
  }
};

inline void fill_scales(Layer& layer, Random& random) {
  std::uniform_real_distribution<float> exponent(-20.0f, 4.0f);
  for (std::int64_t i = 0; i < layer.n; ++i) {
    layer.channel_scale.push_back(std::exp2(exponent(random)));
  }
}

inline Layer random_liquid4(Random& random, std::int64_t n, std::int64_t k, int group_size,
                            Extreme extreme = Extreme::kNone) {
  Layer layer;
  layer.n = n;
  layer.k = k;
  layer.group_size = group_size;
  const std::int64_t groups = (k + group_size - 1) / group_size;
  layer.packed.resize(static_cast<std::size_t>(n * (k / 2)));
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t group = 0; group < groups; ++group) {
      int step = static_cast<int>(pick(random, 1, 16));
      int low = 0;
      int high = static_cast<int>(pick(random, 0, 15));
      int offset = static_cast<int>(pick(random, 0, 255 - high * step));
      if (extreme == Extreme::kHighest) {
        step = random() % 2 ? 16 : 1;
        low = high = 15;
        offset = 255 - high * step;
      } else if (extreme == Extreme::kLowest) {
        low = high = offset = 0;
      }
      layer.step.push_back(static_cast<std::uint8_t>(step));
      layer.offset.push_back(static_cast<std::uint8_t>(offset));
      const std::int64_t end = std::min(k, (group + 1) * group_size);
      for (std::int64_t i = group * group_size; i < end; i += 2) {
        const auto even = static_cast<int>(pick(random, low, high));
        const auto odd = static_cast<int>(pick(random, low, high));
        layer.packed[row * (k / 2) + i / 2] = static_cast<std::uint8_t>(even | odd << 4);
      }
    }
  }
  fill_scales(layer, random);
  return layer;
}

inline Layer random_int8(Random& random, std::int64_t n, std::int64_t k,
                         Extreme extreme = Extreme::kNone) {
  Layer layer;
  layer.kind = WeightView::Kind::kInt8;
  layer.n = n;
  layer.k = k;
  for (std::int64_t i = 0; i < n * k; ++i) {
    std::int64_t value = pick(random, -128, 127);
    if (extreme == Extreme::kHighest) value = 127;
    if (extreme == Extreme::kLowest) value = -128;
    layer.int8.push_back(static_cast<std::int8_t>(value));
  }
  fill_scales(layer, random);
  return layer;
}

inline Layer random_float(Random& random, std::int64_t n, std::int64_t k) {
  Layer layer;
  layer.kind = WeightView::Kind::kFloat;
  layer.n = n;
  layer.k = k;
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (std::int64_t i = 0; i < n * k; ++i) layer.f32.push_back(normal(random));
  return layer;
}

// Of all sizes, subnormal ones too.
inline Layer random_fp16(Random& random, std::int64_t n, std::int64_t k) {
  Layer layer;
  layer.kind = WeightView::Kind::kFp16;
  layer.n = n;
  layer.k = k;
  layer.f16.push_back(0xFF);
  for (std::int64_t i = 0; i < n * k; ++i) {
    const bool any = random() % 8 == 0;
    const auto exponent = static_cast<unsigned>(any ? pick(random, 0, 30) : pick(random, 8, 14));
    const auto bits = static_cast<unsigned>(random() & 0x83FF) | exponent << 10;
    layer.f16.push_back(static_cast<std::uint8_t>(bits));
    layer.f16.push_back(static_cast<std::uint8_t>(bits >> 8));
  }
  return layer;
}

// Quantised tokens with a row stride larger than k; what lies between the rows must not matter.
struct Tokens {
  std::int64_t m = 0, k = 0, ld = 0;
  std::vector<std::int8_t> x8;
  std::vector<float> scale;
  std::vector<std::int32_t> sum;

  QuantizedRows view(std::int64_t first = 0, std::int64_t count = -1) const {
    QuantizedRows rows;
    rows.m = count < 0 ? m : count;
    rows.k = k;
    rows.x8 = x8.data() + first * ld;
    rows.ld = ld;
    rows.scale = scale.data() + first;
    rows.sum = sum.data() + first;
    return rows;
  }
};

// `saturated`: a row is all 127 or all -127; else uniform in -127 .. 127. `nan_rows`: some rows are
// what a row with a non-finite value becomes.
inline Tokens random_tokens(Random& random, std::int64_t m, std::int64_t k, bool saturated = false,
                            bool nan_rows = false) {
  Tokens tokens;
  tokens.m = m;
  tokens.k = k;
  tokens.ld = k + pick(random, 0, 9);
  tokens.x8.resize(static_cast<std::size_t>(m * tokens.ld));
  for (std::int8_t& poison : tokens.x8) poison = static_cast<std::int8_t>(pick(random, -128, 127));
  std::uniform_real_distribution<float> exponent(-12.0f, 4.0f);
  for (std::int64_t row = 0; row < m; ++row) {
    const std::int64_t sign = random() % 2 ? 127 : -127;
    const bool nan = nan_rows && random() % 3 == 0;
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      std::int64_t value = saturated ? sign : pick(random, -127, 127);
      if (nan) value = 0;
      tokens.x8[row * tokens.ld + i] = static_cast<std::int8_t>(value);
      sum += static_cast<std::int32_t>(value);
    }
    tokens.sum.push_back(sum);
    tokens.scale.push_back(nan ? std::numeric_limits<float>::quiet_NaN()
                               : std::exp2(exponent(random)));
  }
  return tokens;
}

inline std::vector<float> random_floats(Random& random, std::int64_t count) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// Equal bits; any NaN equals any other.
inline bool same_float(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

// An output matrix with guard bands and gaps between the rows, poisoned so that an element that
// nobody wrote, or one written where it should not be, is found.
class GuardedOutput {
 public:
  static constexpr std::int64_t kGuard = 67;

  GuardedOutput(std::int64_t m, std::int64_t n, std::int64_t ld)
      : m_(m), n_(n), ld_(ld), values_(static_cast<std::size_t>(m * ld + 2 * kGuard), kPoison) {}

  float* data() { return values_.data() + kGuard; }
  std::int64_t ld() const { return ld_; }

  ::testing::AssertionResult equals(const std::vector<float>& expected) const {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(values_.size()); ++i) {
      const std::int64_t at = i - kGuard;
      const bool inside = at >= 0 && at < m_ * ld_ && at % ld_ < n_;
      const float want = inside ? expected[at / ld_ * n_ + at % ld_] : kPoison;
      if (same_float(values_[i], want)) continue;
      if (!inside) return ::testing::AssertionFailure() << "wrote outside, at offset " << at;
      return ::testing::AssertionFailure() << "row " << at / ld_ << " column " << at % ld_ << ": "
                                           << values_[i] << ", expected " << want;
    }
    return ::testing::AssertionSuccess();
  }

 private:
  static constexpr float kPoison = -0x1.abcdefp+77f;
  std::int64_t m_, n_, ld_;
  std::vector<float> values_;
};

}  // namespace liquidgemm::testing
