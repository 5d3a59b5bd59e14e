// Shared by the tests of sampling and of log-probabilities on the GPU: rows of logits of every
// kind.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "gemm_cuda/cuda_fixture.h"
#include "ops/cuda/sampling.h"

namespace liquidgemm::testing {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Rng = std::mt19937_64;

template <typename T>
T one_of(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[rng() % values.size()];
}

class Sampling : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(is_ok(prepare_sampling()));
  }
};

// ---- Logits ------------------------------------------------------------------------------------

enum class RowKind {
  kNormal,
  kFlat,
  kPeaked,  // a few tokens hold nearly everything, as in a language model
  kTies,
  kEqual,
  kTwoValues,
  kSparse,  // mostly -inf
  kOneFinite,
  kHuge,
  kDenormal,
  kZeros,  // of both signs
  kOneInfinity,
  kInfinities,
  kOnlyInfinities,  // nothing finite
  kNothing,         // -inf alone
  kNan,
  kCount,
};

inline std::vector<float> random_row(Rng& rng, RowKind kind, std::int64_t vocabulary) {
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<std::size_t>(vocabulary));
  const float level = 8.0f * normal(rng);
  const float other = level - std::exp(normal(rng));
  for (float& x : row) {
    x = level + 4.0f * normal(rng);
    if (kind == RowKind::kFlat) x = 0.3f * normal(rng);
    if (kind == RowKind::kPeaked) {
      x = level + normal(rng) + (rng() % 2000 == 0 ? 9.0f + 3.0f * normal(rng) : 0.0f);
    }
    if (kind == RowKind::kTies) x = std::round(x);
    if (kind == RowKind::kEqual) x = level;
    if (kind == RowKind::kTwoValues) x = rng() % 2 ? level : other;
    if (kind == RowKind::kSparse && rng() % 50 != 0) x = -kInf;
    if (kind == RowKind::kOneFinite || kind == RowKind::kOnlyInfinities ||
        kind == RowKind::kNothing) {
      x = -kInf;
    }
    if (kind == RowKind::kHuge) x = one_of(rng, {1.0f, -1.0f, 0.9999f}) * FLT_MAX;
    if (kind == RowKind::kDenormal) x = 1e-45f * static_cast<float>(rng() % 100);
    if (kind == RowKind::kZeros) x = rng() % 2 ? 0.0f : -0.0f;
  }
  float& any = row[rng() % row.size()];
  if (kind == RowKind::kOneFinite) any = level;
  if (kind == RowKind::kOneInfinity || kind == RowKind::kOnlyInfinities) any = kInf;
  if (kind == RowKind::kNan) any = rng() % 2 ? kNan : -kNan;
  if (kind == RowKind::kInfinities) {
    for (int i = 0; i < 5; ++i) row[rng() % row.size()] = kInf;
  }
  return row;
}

// Rows of every kind in device memory, `ld` apart, beginning `offset` elements after a 256-byte
// boundary.
struct Logits {
  Logits(Rng& rng, std::int32_t rows, std::int32_t vocabulary)
      : rows(rows), vocabulary(vocabulary) {
    ld = vocabulary + static_cast<std::int64_t>(rng() % 3 == 0 ? 0 : rng() % 9);
    offset = rng() % 4;
    values.resize(static_cast<std::size_t>(rows * ld) + offset, kNan);
    fill(rng, static_cast<int>(rng() % 100));
    device.emplace(values);
  }
  // The kinds in turn, from `first`.
  void fill(Rng& rng, int first) {
    for (std::int32_t r = 0; r < rows; ++r) {
      const auto kind = static_cast<RowKind>((first + r) % static_cast<int>(RowKind::kCount));
      const std::vector<float> row = random_row(rng, kind, vocabulary);
      std::copy(row.begin(), row.end(), values.begin() + static_cast<std::ptrdiff_t>(begin(r)));
    }
  }
  std::size_t begin(std::int32_t row) const { return static_cast<std::size_t>(row * ld) + offset; }
  std::span<const float> row(std::int32_t r) const {
    return std::span(values).subspan(begin(r), static_cast<std::size_t>(vocabulary));
  }
  // CudaSampleArguments or CudaScoreArguments
  template <typename Arguments>
  void set(Arguments& arguments) const {
    arguments.logits = device->data() + offset;
    arguments.ld = ld;
    arguments.rows = rows;
    arguments.vocabulary = vocabulary;
  }

  std::int32_t rows, vocabulary;
  std::int64_t ld;
  std::size_t offset;
  std::vector<float> values;
  std::optional<DeviceBuffer<float>> device;
};

// Around what a thread block's slice, a load and a run hold, those of models, and the largest.
inline constexpr std::int32_t kVocabularies[] = {1,      2,      7,      1000,  1024,  1025,
                                                 8192,   8193,   16387,  32000, 49152, 65536,
                                                 128256, 151936, 262144, 327680};

}  // namespace liquidgemm::testing
