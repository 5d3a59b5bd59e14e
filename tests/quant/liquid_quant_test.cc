#include "quant/liquid_quant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace liquidgemm {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kQualityRows = 8;
#else
constexpr int kQualityRows = 64;
#endif

constexpr std::array<StepRule, 3> kRules = {StepRule::kRound, StepRule::kCeil, StepRule::kSearch};

std::mt19937_64 seeded() {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  return std::mt19937_64(seed);
}

std::vector<float> gaussian(std::size_t count, float deviation, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

double squared_error(const std::vector<float>& weights, const std::vector<float>& restored) {
  double sum = 0;
  double norm = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double difference = static_cast<double>(weights[i]) - static_cast<double>(restored[i]);
    sum += difference * difference;
    norm += static_cast<double>(weights[i]) * static_cast<double>(weights[i]);
  }
  return sum / norm;
}

std::vector<float> restore(const LiquidRows& rows) {
  std::vector<float> out(static_cast<std::size_t>(rows.rows * rows.k),
                         std::numeric_limits<float>::quiet_NaN());
  dequantize_rows(rows, out);
  return out;
}

Status check(const LiquidRows& rows, const std::string& name = "m", std::int64_t row0 = 0) {
  return check_liquid_rows(rows.packed, rows.step, rows.offset, rows.channel_scale, rows.rows,
                           rows.k, rows.group_size, name, row0);
}

// Every group that matters to the rules by range is given by its minimum, its maximum and one
// value in between.
TEST(LiquidQuantRules, EveryMinimumMaximumAndValueStaysInItsByte) {
  for (const StepRule rule : {StepRule::kRound, StepRule::kCeil}) {
    int clamped = 0;
    for (int low = -119; low <= 119; ++low) {
      for (int high = low; high <= 119; ++high) {
        std::vector<float> levels = {static_cast<float>(low), static_cast<float>(high)};
        const auto last = std::min(high, low + 125);
        for (int value = low; value <= last; ++value) levels.push_back(static_cast<float>(value));
        std::vector<float> rest = {static_cast<float>(low), static_cast<float>(high)};
        for (int value = last + 1; value <= high; ++value) {
          rest.push_back(static_cast<float>(value));
        }
        for (const std::vector<float>& group : {levels, rest}) {
          std::vector<std::uint8_t> codes(group.size(), 0xFF);
          const GroupParameters parameters = quantize_group(rule, group, {}, codes);
          const int step = parameters.step;
          const int offset = parameters.offset;
          ASSERT_GE(step, 1);
          ASSERT_LE(step, 16);
          ASSERT_EQ(offset, low + 128);
          for (std::size_t i = 0; i < group.size(); ++i) {
            ASSERT_LE(codes[i], 15);
            ASSERT_LE(codes[i] * step + offset, 255);
            const int shifted = static_cast<int>(group[i]) - low;
            const int distance = std::abs(codes[i] * step - shifted);
            if (rule == StepRule::kCeil) {
              ASSERT_LE(2 * distance, step);
            } else {
              // Half a step, or at the top what the clamped code 16 falls short of.
              ASSERT_LE(distance, std::max(step / 2, shifted - 15 * step));
              ASSERT_LE(distance, 8);
            }
          }
          // The same through packed arithmetic: four codes, one multiply-add, no carry.
          for (std::size_t i = 0; i + 4 <= group.size(); ++i) {
            std::uint32_t word = 0;
            for (std::size_t j = 0; j < 4; ++j) {
              word |= static_cast<std::uint32_t>(codes[i + j]) << (8 * j);
            }
            word = word * static_cast<std::uint32_t>(step) +
                   static_cast<std::uint32_t>(offset) * 0x01010101u;
            for (std::size_t j = 0; j < 4; ++j) {
              ASSERT_EQ((word >> (8 * j)) & 0xFFu,
                        static_cast<std::uint32_t>(codes[i + j] * step + offset));
            }
          }
        }
        const int range = high - low;
        const int step = std::max(1, (range + 7) / 15);
        if ((range + step / 2) / step > 15) ++clamped;
      }
    }
    // Rounding the step down needs the clamp; so many pairs of minimum and maximum do.
    if (rule == StepRule::kRound) {
      EXPECT_EQ(clamped, 8484);
    }
  }
}

TEST(LiquidQuantRules, SearchStaysInItsByteAtEveryMinimumAndMaximum) {
  std::mt19937_64 random = seeded();
  const int stride = kQualityRows < 64 ? 7 : 1;
  for (int low = -119; low <= 119; low += stride) {
    for (int high = low; high <= 119; high += stride) {
      std::uniform_real_distribution<float> inside(static_cast<float>(low),
                                                   static_cast<float>(high));
      std::vector<float> levels(32);
      for (float& level : levels) level = inside(random);
      levels[0] = static_cast<float>(low);
      levels[1] = static_cast<float>(high);
      std::vector<std::uint8_t> codes(levels.size(), 0xFF);
      const GroupParameters parameters = quantize_group(StepRule::kSearch, levels, {}, codes);
      ASSERT_GE(parameters.step, 1);
      ASSERT_LE(parameters.step, 16);
      for (const std::uint8_t code : codes) {
        ASSERT_LE(code, 15);
        ASSERT_LE(code * parameters.step + parameters.offset, 255);
      }
    }
  }
}

TEST(LiquidQuantQuality, SearchBeatsRoundingByFifteenPercent) {
  std::mt19937_64 random = seeded();
  std::student_t_distribution<float> student(5);
  constexpr std::int64_t kColumns = 4096;
  for (const bool heavy_tails : {false, true}) {
    std::vector<float> weights =
        gaussian(static_cast<std::size_t>(kQualityRows * kColumns), 0.02f, random);
    if (heavy_tails) {
      for (float& weight : weights) weight = 0.02f * student(random);
    }
    for (const int group_size : {32, 64, 128}) {
      double error[3];
      for (std::size_t i = 0; i < kRules.size(); ++i) {
        const auto rows = quantize_rows(weights, kQualityRows, kColumns, group_size, kRules[i]);
        ASSERT_TRUE(rows.ok()) << rows.status().to_string();
        ASSERT_TRUE(check(*rows).ok());
        error[i] = squared_error(weights, restore(*rows));
      }
      std::cout << (heavy_tails ? "student-t(5)" : "gaussian") << " g" << group_size
                << ": squared error x 1000: round " << 1000 * error[0] << ", ceil "
                << 1000 * error[1] << ", search " << 1000 * error[2] << ", search/round "
                << error[2] / error[0] << "\n";
      EXPECT_LT(error[2], error[0]);
      EXPECT_LT(error[2], error[1]);
      if (group_size == 64) {
        EXPECT_LT(error[2], 0.85 * error[0]);
      }
    }
  }
}

TEST(LiquidQuantQuality, ImportanceMovesTheErrorAway) {
  std::mt19937_64 random = seeded();
  constexpr std::int64_t kColumns = 512;
  const std::vector<float> weights = gaussian(16 * kColumns, 1.0f, random);
  std::vector<float> importance(kColumns);
  for (float& value : importance) value = random() % 8 == 0 ? 100.0f : 1.0f;
  const auto weighted_error = [&](const LiquidRows& rows) {
    const std::vector<float> restored = restore(rows);
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double difference = static_cast<double>(weights[i] - restored[i]);
      sum += difference * difference * static_cast<double>(importance[i % kColumns]);
    }
    return sum;
  };
  const auto plain = quantize_rows(weights, 16, kColumns, 64, StepRule::kSearch);
  const auto weighted = quantize_rows(weights, 16, kColumns, 64, StepRule::kSearch, importance);
  ASSERT_TRUE(plain.ok() && weighted.ok());
  EXPECT_LT(weighted_error(*weighted), 0.9 * weighted_error(*plain));
  // Importance that says nothing changes nothing.
  const std::vector<float> zeros(kColumns, 0.0f);
  const auto silent = quantize_rows(weights, 16, kColumns, 64, StepRule::kSearch, zeros);
  ASSERT_TRUE(silent.ok());
  EXPECT_EQ(silent->packed, plain->packed);
}

TEST(LiquidQuantRows, LayoutIsTheFormats) {
  std::mt19937_64 random = seeded();
  for (const int group_size : {32, 64, 128}) {
    for (const std::int64_t k : {2, 30, 32, 62, 64, 66, 96, 128, 130, 576}) {
      const std::int64_t n = 1 + static_cast<std::int64_t>(random() % 5);
      const std::vector<float> weights = gaussian(static_cast<std::size_t>(n * k), 3.0f, random);
      for (const StepRule rule : kRules) {
        const auto rows = quantize_rows(weights, n, k, group_size, rule);
        ASSERT_TRUE(rows.ok());
        const std::int64_t groups = (k + group_size - 1) / group_size;
        ASSERT_EQ(rows->groups(), groups);
        ASSERT_EQ(rows->packed.size(), static_cast<std::size_t>(n * k / 2));
        ASSERT_EQ(rows->step.size(), static_cast<std::size_t>(n * groups));
        ASSERT_EQ(rows->offset.size(), static_cast<std::size_t>(n * groups));
        ASSERT_EQ(rows->channel_scale.size(), static_cast<std::size_t>(n));
        EXPECT_TRUE(check(*rows).ok());
        const std::vector<float> restored = restore(*rows);
        for (std::int64_t row = 0; row < n; ++row) {
          float largest = 0;
          for (std::int64_t column = 0; column < k; ++column) {
            largest =
                std::max(largest, std::fabs(weights[static_cast<std::size_t>(row * k + column)]));
          }
          const float scale = rows->channel_scale[static_cast<std::size_t>(row)];
          ASSERT_EQ(scale, largest / 119.0f);
          for (std::int64_t column = 0; column < k; ++column) {
            const auto i = static_cast<std::size_t>(row * k + column);
            const auto group = static_cast<std::size_t>(row * groups + column / group_size);
            const int code = (rows->packed[i / 2] >> (4 * (column % 2))) & 15;
            const int level = code * rows->step[group] + rows->offset[group] - 128;
            ASSERT_EQ(restored[i], scale * static_cast<float>(level));
            if (rule == StepRule::kCeil) {
              // Half a step, half a level for rounding to integers first.
              ASSERT_LE(std::fabs(restored[i] - weights[i]),
                        scale * (0.5f * rows->step[group] + 0.51f));
            }
          }
        }
      }
    }
  }
}

TEST(LiquidQuantRows, ZeroAndVanishingRowsAreZero) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  const float normal = std::numeric_limits<float>::min();
  for (const float magnitude : {0.0f, smallest, normal, 100.0f * normal}) {
    std::vector<float> weights(64, magnitude);
    weights[1] = -magnitude;
    for (const StepRule rule : kRules) {
      const auto rows = quantize_rows(weights, 1, 64, 64, rule);
      ASSERT_TRUE(rows.ok());
      EXPECT_EQ(rows->channel_scale[0], 1.0f);
      EXPECT_TRUE(check(*rows).ok());
      for (const float value : restore(*rows)) EXPECT_EQ(value, 0.0f);
    }
    const auto bytes = quantize_rows_int8(weights, 1, 64);
    ASSERT_TRUE(bytes.ok());
    EXPECT_EQ(bytes->channel_scale[0], 1.0f);
    for (const std::int8_t value : bytes->values) EXPECT_EQ(value, 0);
  }
  // The largest magnitudes and the smallest that still have a normal scale.
  for (const float magnitude : {0.5f * std::numeric_limits<float>::max(), 128.0f * normal}) {
    std::vector<float> weights(64, magnitude);
    weights[7] = -magnitude;
    for (const StepRule rule : kRules) {
      const auto rows = quantize_rows(weights, 1, 64, 64, rule);
      ASSERT_TRUE(rows.ok());
      EXPECT_TRUE(check(*rows).ok());
      for (const float value : restore(*rows)) {
        ASSERT_NEAR(std::fabs(value) / magnitude, 1.0f, 0.05f);
      }
    }
    const auto bytes = quantize_rows_int8(weights, 1, 64);
    ASSERT_TRUE(bytes.ok());
    EXPECT_TRUE(check_int8_scales(bytes->channel_scale, "m").ok());
    EXPECT_EQ(bytes->values[7], -127);
  }
}

TEST(LiquidQuantRows, BadInputIsNamed) {
  std::vector<float> weights(4 * 64, 0.5f);
  const auto message = [](const auto& result) { return result.status().message(); };
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    weights[2 * 64 + 37] = bad;
    const auto rows = quantize_rows(weights, 4, 64, 64, StepRule::kSearch);
    ASSERT_FALSE(rows.ok());
    EXPECT_EQ(rows.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(message(rows).find("row 2"), std::string::npos);
    EXPECT_NE(message(rows).find("column 37"), std::string::npos);
    const auto bytes = quantize_rows_int8(weights, 4, 64);
    ASSERT_FALSE(bytes.ok());
    EXPECT_NE(message(bytes).find("row 2: column 37"), std::string::npos);
  }
  weights[2 * 64 + 37] = 0.0f;
  EXPECT_FALSE(quantize_rows(weights, 4, 64, 48, StepRule::kRound).ok());
  EXPECT_FALSE(quantize_rows(weights, 4, 63, 64, StepRule::kRound).ok());
  EXPECT_FALSE(quantize_rows(std::span(weights).first(4 * 63), 4, 63, 64, StepRule::kRound).ok());
  EXPECT_FALSE(quantize_rows(weights, -4, -64, 64, StepRule::kRound).ok());
  const std::vector<float> three = {1, 2, 3};
  EXPECT_FALSE(quantize_rows(weights, 4, 64, 64, StepRule::kSearch, three).ok());
  std::vector<float> importance(64, 1.0f);
  importance[9] = -1.0f;
  EXPECT_NE(message(quantize_rows(weights, 4, 64, 64, StepRule::kSearch, importance)).find("9"),
            std::string::npos);
  EXPECT_TRUE(quantize_rows({}, 0, 64, 64, StepRule::kRound).ok());
}

TEST(LiquidQuantCheck, ReportsTheRowAndTheGroup) {
  std::mt19937_64 random = seeded();
  const std::vector<float> weights = gaussian(3 * 160, 1.0f, random);
  const auto good = quantize_rows(weights, 3, 160, 64, StepRule::kSearch);
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(check(*good).ok());
  const auto expect_error = [](const Status& status, const std::string& place) {
    EXPECT_EQ(status.code(), StatusCode::kCorrupt);
    EXPECT_NE(status.message().find("proj"), std::string::npos);
    EXPECT_NE(status.message().find(place), std::string::npos) << status.message();
  };
  for (const int step : {0, 17, 255}) {
    LiquidRows bad = *good;
    bad.step[1 * 3 + 2] = static_cast<std::uint8_t>(step);
    expect_error(check(bad, "proj", 40), "row 41, group 2");
  }
  for (const float scale : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(), 1e-40f}) {
    LiquidRows bad = *good;
    bad.channel_scale[2] = scale;
    expect_error(check(bad, "proj"), "row 2");
    expect_error(check_int8_scales(bad.channel_scale, "proj"), "row 2");
  }
  // The last group of 32 weights: 16 bytes. A large offset is fine while no code overflows.
  LiquidRows edge = *good;
  const std::size_t group = 2 * 3 + 2;
  edge.step[group] = 16;
  edge.offset[group] = 200;
  std::fill_n(edge.packed.begin() + 2 * 80 + 64, 16, static_cast<std::uint8_t>(0x33));
  EXPECT_TRUE(check(edge).ok());  // 3 * 16 + 200 = 248
  for (const int nibble : {0x43, 0x34}) {
    edge.packed.back() = static_cast<std::uint8_t>(nibble);
    expect_error(check(edge, "proj"), "row 2, group 2");
  }
}

TEST(LiquidQuantInt8, RoundsToNearest) {
  std::mt19937_64 random = seeded();
  for (const std::int64_t k : {1, 7, 64, 129}) {
    const std::vector<float> weights = gaussian(static_cast<std::size_t>(5 * k), 0.3f, random);
    const auto rows = quantize_rows_int8(weights, 5, k);
    ASSERT_TRUE(rows.ok());
    for (std::int64_t row = 0; row < 5; ++row) {
      const float scale = rows->channel_scale[static_cast<std::size_t>(row)];
      int largest = 0;
      for (std::int64_t column = 0; column < k; ++column) {
        const auto i = static_cast<std::size_t>(row * k + column);
        largest = std::max(largest, std::abs(static_cast<int>(rows->values[i])));
        ASSERT_LE(std::fabs(scale * static_cast<float>(rows->values[i]) - weights[i]),
                  0.501f * scale);
      }
      EXPECT_EQ(largest, 127);
    }
  }
}

TEST(LiquidQuantRuleNames, RoundTrip) {
  for (const StepRule rule : kRules) {
    const auto parsed = parse_step_rule(step_rule_name(rule));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, rule);
  }
  EXPECT_FALSE(parse_step_rule("nearest").ok());
}

}  // namespace
}  // namespace liquidgemm
