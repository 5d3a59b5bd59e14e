// The search against brute force: every step, every offset, every valid code, in double.
#include "quant/step_search.h"

#include <gtest/gtest.h>

#include <algorithm>
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
constexpr int kRepeats = 2;
#else
constexpr int kRepeats = 20;
#endif

struct Oracle {
  double error = std::numeric_limits<double>::infinity();
  GroupParameters parameters;
};

double brute_force_error(const std::vector<float>& levels, const std::vector<float>& importance,
                         int step, int offset) {
  double sum = 0;
  for (std::size_t k = 0; k < levels.size(); ++k) {
    double nearest = std::numeric_limits<double>::infinity();
    for (int code = 0; code <= 15 && code * step + offset <= 255; ++code) {
      const double difference = static_cast<double>(levels[k]) - (code * step + offset - 128);
      nearest = std::min(nearest, difference * difference);
    }
    sum += importance.empty() ? nearest : nearest * static_cast<double>(importance[k]);
  }
  return sum;
}

Oracle brute_force(const std::vector<float>& levels, const std::vector<float>& importance) {
  Oracle best;
  for (int step = 1; step <= 16; ++step) {
    for (int offset = 255; offset >= 0; --offset) {
      const double error = brute_force_error(levels, importance, step, offset);
      if (error < best.error) {
        best.error = error;
        best.parameters = {static_cast<std::uint8_t>(step), static_cast<std::uint8_t>(offset)};
      }
    }
  }
  return best;
}

float clamp_level(double value) { return static_cast<float>(std::clamp(value, -119.0, 119.0)); }

using Generator = std::function<float(std::mt19937_64&)>;

std::vector<std::pair<std::string, Generator>> generators() {
  const auto normal = [](double mean, double deviation) {
    return [=](std::mt19937_64& random) {
      return clamp_level(std::normal_distribution<double>(mean, deviation)(random));
    };
  };
  const auto uniform = [](double low, double high) {
    return [=](std::mt19937_64& random) {
      return clamp_level(std::uniform_real_distribution<double>(low, high)(random));
    };
  };
  return {
      {"gaussian", normal(0, 37)},
      {"narrow", normal(50, 4)},
      {"tiny", normal(0, 1e-3)},
      {"vanishing", normal(0, 1e-25)},
      {"wide", uniform(-119, 119)},
      {"at the top", uniform(100, 119)},
      {"at the bottom", uniform(-119, -90)},
      {"student t",
       [](std::mt19937_64& random) {
         return clamp_level(20 * std::student_t_distribution<double>(3)(random));
       }},
      {"two ends", [](std::mt19937_64& random) { return random() % 2 == 0 ? 119.0f : -119.0f; }},
      {"integers",
       [](std::mt19937_64& random) { return static_cast<float>(random() % 239) - 119.0f; }},
      {"halves",
       [](std::mt19937_64& random) { return (static_cast<float>(random() % 60) - 30.0f) / 2; }},
      {"a 16-level grid",
       [](std::mt19937_64& random) { return -60.0f + 7.0f * static_cast<float>(random() % 16); }},
      {"mostly zero",
       [](std::mt19937_64& random) {
         return random() % 10 == 0 ? clamp_level(std::normal_distribution<double>(0, 60)(random))
                                   : 0.0f;
       }},
  };
}

class StepSearch : public ::testing::Test {
 protected:
  StepSearch() : seed_(std::random_device{}()), random_(seed_) {
    std::cout << "seed " << seed_ << "\n";
  }
  void expect_optimal(const std::vector<float>& levels, const std::vector<float>& importance) {
    const Oracle oracle = brute_force(levels, importance);
    const GroupParameters found = search_step(levels, importance);
    EXPECT_EQ(found.step, oracle.parameters.step);
    EXPECT_EQ(found.offset, oracle.parameters.offset);
    EXPECT_EQ(brute_force_error(levels, importance, found.step, found.offset), oracle.error);
  }
  std::uint64_t seed_;
  std::mt19937_64 random_;
};

TEST_F(StepSearch, FindsTheBestPairOfAll) {
  for (const auto& [name, generate] : generators()) {
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      // 2 .. 128 levels: whole groups and short last ones.
      const std::size_t sizes[] = {32, 64, 128, 2 + 2 * (random_() % 63)};
      std::vector<float> levels(sizes[repeat % 4]);
      for (float& level : levels) level = generate(random_);
      SCOPED_TRACE(name + ", repeat " + std::to_string(repeat));
      expect_optimal(levels, {});
      if (HasFailure()) return;
    }
  }
}

TEST_F(StepSearch, FindsTheBestPairUnderImportance) {
  for (const auto& [name, generate] : generators()) {
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      std::vector<float> levels(repeat % 2 == 0 ? 64 : 2 + 2 * (random_() % 63));
      std::vector<float> importance(levels.size());
      for (float& level : levels) level = generate(random_);
      // Spread over many powers of ten, some of them zero.
      for (float& value : importance) {
        value =
            random_() % 8 == 0
                ? 0.0f
                : std::exp(std::normal_distribution<float>(0, repeat < 2 ? 20.0f : 2.0f)(random_));
      }
      importance[0] = 1.0f;
      SCOPED_TRACE(name + ", repeat " + std::to_string(repeat));
      expect_optimal(levels, importance);
      if (HasFailure()) return;
    }
  }
}

TEST_F(StepSearch, OneLevelIsExactWithCodeZero) {
  for (int level = -119; level <= 119; ++level) {
    const std::vector<float> levels(64, static_cast<float>(level));
    const GroupParameters found = search_step(levels, {});
    EXPECT_EQ(found.step, 1);
    EXPECT_EQ(found.offset, level + 128);
    EXPECT_EQ(nearest_code(levels[0], level, 1), 0);
  }
}

TEST_F(StepSearch, NearestCodeIsValidAndNearest) {
  for (int step = 1; step <= 16; ++step) {
    for (int offset = 0; offset <= 255; ++offset) {
      for (int repeat = 0; repeat < 8; ++repeat) {
        const float level = repeat == 0   ? 119.0f
                            : repeat == 1 ? -119.0f
                            : repeat == 2
                                ? static_cast<float>(offset - 128) + 0.5f * static_cast<float>(step)
                                : clamp_level(std::uniform_real_distribution<>(-119, 119)(random_));
        const int code = nearest_code(level, offset - 128, step);
        ASSERT_GE(code, 0);
        ASSERT_LE(code, 15);
        ASSERT_LE(code * step + offset, 255);
        const double difference = static_cast<double>(level) - (code * step + offset - 128);
        ASSERT_EQ(difference * difference, brute_force_error({level}, {}, step, offset));
      }
    }
  }
}

}  // namespace
}  // namespace liquidgemm
