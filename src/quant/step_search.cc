// All 16 x 256 pairs (step, offset) would cost 4096 passes over a group. Three facts leave some
// tens of them, and change nothing in the result:
//
//  1. Offsets that matter. Let the grid start at level o = a - 128. If o + s <= min(v), code 0 is
//     nobody's nearest, and the grid at o + s has all the other points and one more on top: it is
//     at least as good, and preferred on a tie. If o > max(v), the grid at ceil(max(v)) is better.
//     So floor(min) - s < o <= ceil(max).
//  2. Clipping. Levels below o cost at least their squared distance to o, levels above o + 15 s
//     theirs to that point. Both sums come from a table made once a group; a pair whose clipping
//     alone exceeds the best error found so far is out. A smaller step clips more at every offset,
//     so the walk to smaller steps ends at the first step that has no offset left.
//  3. Rough first, exact after. The errors are first computed in binary32, 16 offsets at a time.
//     sqrt(error) is the distance of the group from a set of points, so an error of at most e in
//     each level moves it by at most e * sqrt(sum of weights) (the triangle inequality). Everything
//     within twice that of the best rough value is computed again in double, and only those values
//     decide.
//
// Because rough values never decide, the result is the same on every ISA.
#include "quant/step_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace liquidgemm {
namespace {

constexpr int kLanes = 16;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using LaneMask = std::int32_t __attribute__((vector_size(kLanes * sizeof(float))));

// In units of the step |v / s| <= 119 and |(v - o) / s| <= 247, each rounded to 24 bits: together
// less than 2^-15 of a level, and a wrong neighbour near a tie costs as much again.
constexpr double kRoughLevelError = 0x1p-14;
// The rounded sums of up to 128 positive terms: (128 + 4) * 2^-24 of the value, half in the root.
constexpr double kRoughSumError = 0x1p-15;

constexpr int kClipEntries = 32;

struct Group {
  int count = 0;
  bool weighted = false;
  alignas(64) std::array<float, kMaxGroup> level;
  alignas(64) std::array<float, kMaxGroup> weight;  // largest is 1; unused when not weighted
  float low = 0;
  float high = 0;
  int floor_low = 0;
  int ceil_high = 0;
  double slack = 0;  // what two rough roots may differ by in each direction, added up

  // below[i]: the clipping cost of a grid that starts at floor_low + i; above[i]: of one that ends
  // at ceil_high - i. Both grow with i, so the last entry bounds all further ones from below.
  alignas(64) std::array<float, kClipEntries> below;
  alignas(64) std::array<float, kClipEntries> above;
};

struct Block {
  alignas(64) std::array<float, kLanes> origin;  // o / s
  alignas(64) std::array<float, kLanes> top;     // largest valid code
};

// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer for |x| < 2^22.
constexpr float kRoundingShift = 12582912.0f;

// Rough errors, in units of s^2, of 16 grids against levels[] / s. Stops early, with every lane
// above `limit`, when no lane can come back under it.
template <bool kWeighted>
[[gnu::always_inline]] inline void block_errors(const float* scaled, const float* weight, int count,
                                                const Block& block, float limit, float* errors) {
  Lanes origin;
  Lanes top;
  std::memcpy(&origin, block.origin.data(), sizeof origin);
  std::memcpy(&top, block.top.data(), sizeof top);
  const Lanes zero = {};
  Lanes sum = {};
  const int half = count / 2;
  int k = 0;
  while (k < count) {
    const int end = std::min(count, k + 16);
    for (; k < end; ++k) {
      const Lanes x = scaled[k] - origin;
      Lanes code = (x + kRoundingShift) - kRoundingShift;
      code = code > zero ? code : zero;
      code = code < top ? code : top;
      const Lanes difference = x - code;
      if constexpr (kWeighted) {
        sum += (difference * difference) * weight[k];
      } else {
        sum += difference * difference;
      }
    }
    if (k >= half && k < count) {
      const LaneMask alive = sum <= limit;
      std::array<std::int64_t, kLanes / 2> words;
      std::memcpy(words.data(), &alive, sizeof alive);
      std::int64_t any = 0;
      for (const std::int64_t word : words) any |= word;
      if (any == 0) break;
    }
  }
  std::memcpy(errors, &sum, sizeof sum);
}

using BlockErrors = void (*)(const float*, const float*, int, bool, const Block&, float, float*);

#define LIQUIDGEMM_BLOCK_ERRORS(name, attributes)                                          \
  attributes void name(const float* scaled, const float* weight, int count, bool weighted, \
                       const Block& block, float limit, float* errors) {                   \
    if (weighted) {                                                                        \
      block_errors<true>(scaled, weight, count, block, limit, errors);                     \
    } else {                                                                               \
      block_errors<false>(scaled, weight, count, block, limit, errors);                    \
    }                                                                                      \
  }

LIQUIDGEMM_BLOCK_ERRORS(block_errors_plain, )
#if defined(__x86_64__)
LIQUIDGEMM_BLOCK_ERRORS(block_errors_avx2, __attribute__((target("avx2"))))
LIQUIDGEMM_BLOCK_ERRORS(block_errors_avx512, __attribute__((target("avx512f"))))
#endif
#undef LIQUIDGEMM_BLOCK_ERRORS

BlockErrors choose_block_errors() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return block_errors_avx512;
  if (__builtin_cpu_supports("avx2")) return block_errors_avx2;
#endif
  return block_errors_plain;
}

void fill_clip_tables(Group& group) {
  group.below.fill(0);
  group.above.fill(0);
  for (int k = 0; k < group.count; ++k) {
    const float level = group.level[static_cast<std::size_t>(k)];
    const float weight = group.weighted ? group.weight[static_cast<std::size_t>(k)] : 1.0f;
    // Few levels lie near an end, so most of these loops end at once.
    for (int i = kClipEntries - 1; i > 0; --i) {
      const float distance = static_cast<float>(group.floor_low + i) - level;
      if (distance <= 0) break;
      group.below[static_cast<std::size_t>(i)] += distance * distance * weight;
    }
    for (int i = kClipEntries - 1; i > 0; --i) {
      const float distance = level - static_cast<float>(group.ceil_high - i);
      if (distance <= 0) break;
      group.above[static_cast<std::size_t>(i)] += distance * distance * weight;
    }
  }
}

Group load_group(std::span<const float> levels, std::span<const float> importance) {
  Group group;
  group.count = static_cast<int>(levels.size());
  group.low = group.high = levels[0];
  for (std::size_t k = 0; k < levels.size(); ++k) {
    group.level[k] = levels[k];
    group.low = std::min(group.low, levels[k]);
    group.high = std::max(group.high, levels[k]);
  }
  group.floor_low = static_cast<int>(std::floor(group.low));
  group.ceil_high = static_cast<int>(std::ceil(group.high));
  double total_weight = group.count;
  if (!importance.empty()) {
    group.weighted = true;
    const float largest = *std::max_element(importance.begin(), importance.end());
    total_weight = 0;
    for (std::size_t k = 0; k < levels.size(); ++k) {
      group.weight[k] = importance[k] / largest;
      total_weight += group.weight[k];
    }
  }
  group.slack = 2 * kRoughLevelError * std::sqrt(total_weight);
  fill_clip_tables(group);
  return group;
}

struct Candidate {
  float error;
  int step;
  int origin;
};

class Search {
 public:
  explicit Search(const Group& group) : group_(group) {}

  void run() {
    const float range = group_.high - group_.low;
    const int guess = std::clamp(static_cast<int>(range / 15.0f + 0.5f), 1, kMaxStep);
    seed(guess);
    for (int step = guess; step >= 1 && try_step(step); --step) {
    }
    for (int step = guess + 1; step <= kMaxStep; ++step) try_step(step);
  }

  double limit() const { return limit_; }
  std::span<const Candidate> candidates() const { return {candidates_.data(), used_}; }

 private:
  void scale_levels(int step) {
    const float inverse = 1.0f / static_cast<float>(step);
    for (int k = 0; k < group_.count; ++k) {
      const auto i = static_cast<std::size_t>(k);
      scaled_[i] = group_.level[i] * inverse;
    }
  }

  // Rough errors of the grids that start at first, first + 1, ...; first + 15 may lie above the
  // highest level, the caller ignores such lanes.
  void block_at(int step, int first, std::array<float, kLanes>& errors) const {
    static const BlockErrors compute = choose_block_errors();
    const float inverse = 1.0f / static_cast<float>(step);
    Block block;
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto i = static_cast<std::size_t>(lane);
      const int origin = std::min(first + lane, kTopLevel);
      block.origin[i] = static_cast<float>(origin) * inverse;
      block.top[i] = static_cast<float>(largest_code(origin, step));
    }
    const float square = static_cast<float>(step * step);
    compute(scaled_.data(), group_.weight.data(), group_.count, group_.weighted, block,
            static_cast<float>(limit_) / square, errors.data());
    for (float& error : errors) error *= square;
  }

  void update_best(float error) {
    if (!(error < best_)) return;
    best_ = error;
    const double root = std::sqrt(static_cast<double>(error)) * (1 + kRoughSumError) + group_.slack;
    limit_ = root * root;
  }

  // A first good value: the guessed step with the grid's middle near the group's middle.
  void seed(int step) {
    scale_levels(step);
    const float middle = 0.5f * (group_.low + group_.high);
    const int first = static_cast<int>(middle - 7.5f * static_cast<float>(step)) - kLanes / 2;
    std::array<float, kLanes> errors;
    block_at(step, std::max(first, -kLevelBias), errors);
    for (const float error : errors) update_best(error);
  }

  bool clipped_out(int step, int origin) const {
    const int low_index = std::clamp(origin - group_.floor_low, 0, kClipEntries - 1);
    const int end = std::min(origin + kMaxCode * step, kTopLevel);
    const int high_index = std::clamp(group_.ceil_high - end, 0, kClipEntries - 1);
    return static_cast<double>(group_.below[static_cast<std::size_t>(low_index)]) +
               static_cast<double>(group_.above[static_cast<std::size_t>(high_index)]) >
           limit_;
  }

  // How far into a clip table one may go: the last entry of the table stands for all beyond it.
  int room(const std::array<float, kClipEntries>& table) const {
    int i = 0;
    while (i + 1 < kClipEntries &&
           static_cast<double>(table[static_cast<std::size_t>(i + 1)]) <= limit_) {
      ++i;
    }
    return i + 1 < kClipEntries ? i : 2 * kLevelBias;
  }

  // False when clipping rules out every offset.
  bool try_step(int step) {
    int first = std::max({group_.floor_low - step + 1, -kLevelBias,
                          group_.ceil_high - room(group_.above) - kMaxCode * step});
    int last = std::min(group_.ceil_high, group_.floor_low + room(group_.below));
    while (first <= last && clipped_out(step, first)) ++first;
    while (first <= last && clipped_out(step, last)) --last;
    if (first > last) return false;
    scale_levels(step);
    for (; first <= last; first += kLanes) {
      std::array<float, kLanes> errors;
      block_at(step, first, errors);
      const int lanes = std::min(kLanes, last - first + 1);
      for (int lane = 0; lane < lanes; ++lane) {
        const float error = errors[static_cast<std::size_t>(lane)];
        if (static_cast<double>(error) > limit_) continue;
        update_best(error);
        candidates_[used_++] = {error, step, first + lane};
      }
    }
    return true;
  }

  const Group& group_;
  float best_ = std::numeric_limits<float>::infinity();
  double limit_ = std::numeric_limits<double>::infinity();
  alignas(64) std::array<float, kMaxGroup> scaled_;
  // Each pair comes at most once, from steps 1..16 and origins -128..119.
  std::array<Candidate, static_cast<std::size_t>(kMaxStep) * 248> candidates_;
  std::size_t used_ = 0;
};

}  // namespace

int nearest_code(float level, int origin, int step) {
  const int top = largest_code(origin, step);
  const double x = static_cast<double>(level) - origin;
  if (!(x > 0)) return 0;
  if (x >= static_cast<double>(top) * step) return top;
  const int lower = std::min(static_cast<int>(x / step), top - 1);
  const double down = x - static_cast<double>(lower) * step;
  const double up = static_cast<double>(lower + 1) * step - x;
  return up < down ? lower + 1 : lower;
}

double group_error(std::span<const float> levels, std::span<const float> importance,
                   GroupParameters parameters) {
  const int step = parameters.step;
  const int origin = static_cast<int>(parameters.offset) - kLevelBias;
  double sum = 0;
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const int grid = origin + nearest_code(levels[k], origin, step) * step;
    const double difference = static_cast<double>(levels[k]) - grid;
    const double square = difference * difference;
    sum += importance.empty() ? square : square * static_cast<double>(importance[k]);
  }
  return sum;
}

GroupParameters search_step(std::span<const float> levels, std::span<const float> importance) {
  const Group group = load_group(levels, importance);
  if (group.floor_low == group.ceil_high) {  // one integer level: exact, with all codes 0
    return {1, static_cast<std::uint8_t>(group.floor_low + kLevelBias)};
  }
  Search search(group);
  search.run();

  std::array<Candidate, static_cast<std::size_t>(kMaxStep) * 248> close;
  std::size_t count = 0;
  for (const Candidate& candidate : search.candidates()) {
    if (static_cast<double>(candidate.error) <= search.limit()) close[count++] = candidate;
  }
  std::sort(close.begin(), close.begin() + static_cast<std::ptrdiff_t>(count),
            [](const Candidate& a, const Candidate& b) {
              return a.step != b.step ? a.step < b.step : a.origin > b.origin;
            });
  GroupParameters best;
  double best_error = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < count && best_error > 0; ++i) {
    const GroupParameters parameters{static_cast<std::uint8_t>(close[i].step),
                                     static_cast<std::uint8_t>(close[i].origin + kLevelBias)};
    const double error = group_error(levels, importance, parameters);
    if (error < best_error) {
      best_error = error;
      best = parameters;
    }
  }
  return best;
}

}  // namespace liquidgemm
