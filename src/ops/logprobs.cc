#include "ops/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/cpu/ops.h"
#include "ops/lane_sum.h"

namespace liquidgemm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// NaN if there is one.
float largest(std::span<const float> x) {
  float max = -kInfinity;
  bool nan = false;
  for (const float value : x) {
    nan |= value != value;
    max = value > max ? value : max;
  }
  return nan ? kNan : max;
}

// log(sum of exp(x - max)), max finite.
double log_sum(std::span<const float> x, float max) {
  // The same bits on every instruction set, so the best may do it.
  static const CpuOps& ops = cpu_ops(best_isa());
  constexpr std::size_t kBlock = 1024;
  float e[kBlock];
  double sum = 0.0;
  for (std::size_t begin = 0; begin < x.size(); begin += kBlock) {
    const std::size_t count = std::min(x.size() - begin, kBlock);
    ops.exp_minus(x.data() + begin, max, e, static_cast<std::int64_t>(count));
    sum += sum_of(e, count);
  }
  return std::log(sum);
}

}  // namespace

void score_token(std::span<const float> logits, std::int32_t token, std::int32_t top,
                 TokenScore& score) {
  score.count = 0;
  const float max = largest(logits);
  if (!(max > -kInfinity)) {
    score.logprob = kNan;
    return;
  }
  const bool infinite = max == kInfinity;
  const double log_total =
      infinite ? std::log(static_cast<double>(std::count(logits.begin(), logits.end(), max)))
               : log_sum(logits, max);
  const auto logprob = [&](float x) {
    if (infinite) return x == max ? static_cast<float>(-log_total) : -kInfinity;
    return static_cast<float>((static_cast<double>(x) - static_cast<double>(max)) - log_total);
  };
  score.logprob = logprob(logits[static_cast<std::size_t>(token)]);
  if (top == 0) return;

  // By logits, which tell more tokens apart than their log-probabilities. Ascending ids, so an
  // equal one that comes later stays behind.
  std::array<float, kMaxLogprobs> values;
  const auto most = static_cast<std::size_t>(top);
  std::size_t count = 0;
  float least = -kInfinity;  // what the next one must exceed
  for (std::size_t t = 0; t < logits.size(); ++t) {
    const float x = logits[t];
    if (!(x > least)) continue;
    if (count < most) ++count;
    std::size_t at = count - 1;
    for (; at > 0 && values[at - 1] < x; --at) {
      values[at] = values[at - 1];
      score.top[at].token = score.top[at - 1].token;
    }
    values[at] = x;
    score.top[at].token = static_cast<std::int32_t>(t);
    if (count == most) least = values[most - 1];
  }
  for (std::size_t i = 0; i < count; ++i) score.top[i].logprob = logprob(values[i]);
  score.count = static_cast<std::int32_t>(count);
}

}  // namespace liquidgemm
