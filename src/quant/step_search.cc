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
// Sums and clip tables add positive numbers only, each rounded at most 300 times: less than 2^-15
// of the value, half of that in the root.
constexpr double kRoughSumError = 0x1p-15;

constexpr int kClipEntries = 64;

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

// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer for |x| < 2^22.
constexpr float kRoundingShift = 12582912.0f;

[[gnu::always_inline]] inline bool any_at_most(const Lanes& values, float limit) {
  const LaneMask mask = values <= limit;
  std::array<std::int64_t, kLanes / 2> words;
  std::memcpy(words.data(), &mask, sizeof mask);
  std::int64_t any = 0;
  for (const std::int64_t word : words) any |= word;
  return any != 0;
}

// Rough errors of the 16 grids that start at first, first + 1, ..., in units of step^2; `scaled`
// holds the levels divided by the step. Lanes above kTopLevel hold nonsense. False, perhaps before
// the last level, when every lane is above `limit`.
template <bool kWeighted>
[[gnu::always_inline]] inline bool block_errors(const float* scaled, const float* weight, int count,
                                                int first, int step, float limit, float* errors) {
  constexpr Lanes kIota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const float inverse = 1.0f / static_cast<float>(step);
  const Lanes start = kIota + static_cast<float>(first);
  const Lanes origin = start * inverse;
  // floor(room / step) as round((room + 1/2) / step - 1/2): at least 1/32 away from every tie.
  const Lanes room = static_cast<float>(kTopLevel) - start;
  const Lanes fits = (((room + 0.5f) * inverse - 0.5f) + kRoundingShift) - kRoundingShift;
  const Lanes most = Lanes{} + static_cast<float>(kMaxCode);
  const Lanes top = fits < most ? fits : most;
  const Lanes zero = {};
  Lanes sum = {};
  for (int k = 0; k < count;) {
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
    if (2 * k >= count && !any_at_most(sum, limit)) return false;
  }
  std::memcpy(errors, &sum, sizeof sum);
  return true;
}

// One instance for each ISA; the vectors above become its registers.
#define LIQUIDGEMM_BLOCK_ERRORS(name, attributes)                                          \
  attributes bool name(const float* scaled, const float* weight, int count, bool weighted, \
                       int first, int step, float limit, float* errors) {                  \
    if (weighted) {                                                                        \
      return block_errors<true>(scaled, weight, count, first, step, limit, errors);        \
    }                                                                                      \
    return block_errors<false>(scaled, weight, count, first, step, limit, errors);         \
  }

LIQUIDGEMM_BLOCK_ERRORS(block_errors_plain, )
#if defined(__x86_64__)
LIQUIDGEMM_BLOCK_ERRORS(block_errors_avx2, __attribute__((target("avx2"))))
LIQUIDGEMM_BLOCK_ERRORS(block_errors_avx512, __attribute__((target("avx512f"))))
#endif
#undef LIQUIDGEMM_BLOCK_ERRORS

using BlockErrors = decltype(&block_errors_plain);

BlockErrors choose_block_errors() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return block_errors_avx512;
  if (__builtin_cpu_supports("avx2")) return block_errors_avx2;
#endif
  return block_errors_plain;
}

// cost[i] = sum of w * max(0, i - depth)^2, from one bucket for each unit of depth: moving the end
// one unit in turns d^2 into (d + 1)^2 = d^2 + 2 d + 1 for what is cut already. Only additions of
// positive numbers, so the rounding stays relative.
class ClipTable {
 public:
  void add(float depth, float weight) {
    const int bucket = static_cast<int>(depth);
    if (bucket + 1 >= kClipEntries) return;
    const float distance = static_cast<float>(bucket + 1) - depth;
    const auto i = static_cast<std::size_t>(bucket + 1);
    weight_[i] += weight;
    first_[i] += weight * distance;
    second_[i] += weight * distance * distance;
  }

  void fill(std::array<float, kClipEntries>& cost) const {
    float weight = 0;
    float first = 0;
    float second = 0;
    for (std::size_t i = 0; i < kClipEntries; ++i) {
      second += 2 * first + weight + second_[i];
      first += weight + first_[i];
      weight += weight_[i];
      cost[i] = second;
    }
  }

 private:
  std::array<float, kClipEntries> weight_{};
  std::array<float, kClipEntries> first_{};
  std::array<float, kClipEntries> second_{};
};

void fill_clip_tables(Group& group) {
  ClipTable below;
  ClipTable above;
  for (std::size_t k = 0; k < static_cast<std::size_t>(group.count); ++k) {
    const float weight = group.weighted ? group.weight[k] : 1.0f;
    below.add(group.level[k] - static_cast<float>(group.floor_low), weight);
    above.add(static_cast<float>(group.ceil_high) - group.level[k], weight);
  }
  below.fill(group.below);
  above.fill(group.above);
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
    for (std::size_t k = 0; k < static_cast<std::size_t>(group_.count); k += kLanes) {
      Lanes levels;
      std::memcpy(&levels, group_.level.data() + k, sizeof levels);
      levels *= inverse;
      std::memcpy(scaled_.data() + k, &levels, sizeof levels);
    }
  }

  // False when no grid of the block is below the limit.
  bool block_at(int step, int first, std::array<float, kLanes>& errors) const {
    static const BlockErrors compute = choose_block_errors();
    const float square = static_cast<float>(step * step);
    if (!compute(scaled_.data(), group_.weight.data(), group_.count, group_.weighted, first, step,
                 static_cast<float>(limit_) / square, errors.data())) {
      return false;
    }
    for (float& error : errors) error *= square;
    return true;
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
    if (!block_at(step, std::max(first, -kLevelBias), errors)) return;
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

  // The entries of a clip table that are within the limit. The limit only ever falls.
  void shrink(const std::array<float, kClipEntries>& table, int& entries) const {
    while (entries > 1 &&
           static_cast<double>(table[static_cast<std::size_t>(entries - 1)]) > limit_) {
      --entries;
    }
  }

  // False when clipping rules out every offset.
  bool try_step(int step) {
    shrink(group_.below, below_entries_);
    shrink(group_.above, above_entries_);
    int first = std::max(group_.floor_low - step + 1, -kLevelBias);
    int last = group_.ceil_high;
    if (below_entries_ < kClipEntries) last = std::min(last, group_.floor_low + below_entries_ - 1);
    if (above_entries_ < kClipEntries) {
      first = std::max(first, group_.ceil_high - (above_entries_ - 1) - kMaxCode * step);
    }
    while (first <= last && clipped_out(step, first)) ++first;
    while (first <= last && clipped_out(step, last)) --last;
    if (first > last) return false;
    scale_levels(step);
    for (; first <= last; first += kLanes) {
      std::array<float, kLanes> errors;
      if (!block_at(step, first, errors)) continue;
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
  int below_entries_ = kClipEntries;
  int above_entries_ = kClipEntries;
  alignas(64) std::array<float, kMaxGroup> scaled_;
  // Each pair comes at most once, from steps 1..16 and origins -128..119.
  std::array<Candidate, static_cast<std::size_t>(kMaxStep) * 248> candidates_;
  std::size_t used_ = 0;
};

}  // namespace

int nearest_code(float level, int origin, int step) {
  // Whichever way the quotient rounds, the nearest point is `lower` or the one above it.
  const int top = largest_code(origin, step);
  const double x = static_cast<double>(level) - origin;
  const double quotient = std::clamp(x / step, 0.0, static_cast<double>(top));
  const int lower = static_cast<int>(quotient);
  const double down = std::fabs(x - lower * step);
  const double up = std::fabs(x - (lower + 1) * step);
  return lower + static_cast<int>((up < down) & (lower < top));
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
  const auto parameters = [&](const Candidate& candidate) {
    return GroupParameters{static_cast<std::uint8_t>(candidate.step),
                           static_cast<std::uint8_t>(candidate.origin + kLevelBias)};
  };
  if (count == 1) return parameters(close[0]);  // most groups
  std::sort(close.begin(), close.begin() + static_cast<std::ptrdiff_t>(count),
            [](const Candidate& a, const Candidate& b) {
              return a.step != b.step ? a.step < b.step : a.origin > b.origin;
            });
  GroupParameters best;
  double best_error = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < count && best_error > 0; ++i) {
    const double error = group_error(levels, importance, parameters(close[i]));
    if (error < best_error) {
      best_error = error;
      best = parameters(close[i]);
    }
  }
  return best;
}

}  // namespace liquidgemm
