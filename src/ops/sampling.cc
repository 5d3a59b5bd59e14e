#include "ops/sampling.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "ops/cpu/ops.h"
#include "ops/lane_sum.h"
#include "ops/philox.h"

namespace liquidgemm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int32_t kInfinityBits = 0x7F800000;

// An integer in the order of the floats, with -0 equal to +0.
std::int32_t order_key(float x) {
  const std::int32_t bits = std::bit_cast<std::int32_t>(x + 0.0f);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

struct Scan {
  bool usable = false;  // no NaN and at least one finite value
  std::int32_t argmax = 0;
  float max = 0.0f;
};

// One pass. Integers in the inner loop, because compilers vectorise their minimum and maximum
// without giving up NaN.
Scan scan_logits(std::span<const float> x) {
  constexpr std::size_t kBlock = 1024;
  std::int32_t best = std::numeric_limits<std::int32_t>::min();
  std::size_t best_block = 0;
  std::int32_t least_magnitude = kInfinityBits;
  for (std::size_t begin = 0; begin < x.size(); begin += kBlock) {
    const float* block = x.data() + begin;
    const int count = static_cast<int>(x.size() - begin < kBlock ? x.size() - begin : kBlock);
    std::int32_t key = std::numeric_limits<std::int32_t>::min();
    std::int32_t least = kInfinityBits;
    std::int32_t most = 0;
    for (int i = 0; i < count; ++i) {
      const std::int32_t bits = std::bit_cast<std::int32_t>(block[i] + 0.0f);
      const std::int32_t magnitude = bits & 0x7FFFFFFF;
      const std::int32_t ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF);
      key = ordered > key ? ordered : key;
      least = magnitude < least ? magnitude : least;
      most = magnitude > most ? magnitude : most;
    }
    if (most > kInfinityBits) return {};
    least_magnitude = least < least_magnitude ? least : least_magnitude;
    if (key > best) {
      best = key;
      best_block = begin;
    }
  }
  if (least_magnitude >= kInfinityBits) return {};
  std::size_t i = best_block;
  while (order_key(x[i]) != best) ++i;
  return {true, static_cast<std::int32_t>(i), x[i]};
}

// A huge change must not make an infinity, which has a meaning of its own.
float finite(float value) {
  if (value > FLT_MAX) return FLT_MAX;
  if (value < -FLT_MAX) return -FLT_MAX;
  return value;
}

void apply_bias(std::span<const TokenBias> biases, std::span<float> x) {
  for (const TokenBias& bias : biases) {
    if (bias.token < 0 || static_cast<std::size_t>(bias.token) >= x.size()) continue;
    float& value = x[static_cast<std::size_t>(bias.token)];
    if (bias.bias == -kInfinity) {
      value = -kInfinity;
    } else if (std::isfinite(value)) {
      value = finite(value + bias.bias);
    }
  }
}

void apply_mask(std::span<const std::uint32_t> mask, std::span<float> x) {
  for (std::size_t begin = 0; begin < x.size(); begin += 32) {
    const std::uint32_t word = begin / 32 < mask.size() ? mask[begin / 32] : 0;
    if (word == 0xFFFFFFFFu) continue;
    const std::size_t count = x.size() - begin < 32 ? x.size() - begin : 32;
    for (std::size_t i = 0; i < count; ++i) {
      if (((word >> i) & 1u) == 0) x[begin + i] = -kInfinity;
    }
  }
}

void apply_penalties(const SamplingParams& params, std::span<const TokenCount> counts,
                     std::span<float> x) {
  for (const TokenCount& count : counts) {
    if (count.token < 0 || static_cast<std::size_t>(count.token) >= x.size()) continue;
    float& value = x[static_cast<std::size_t>(count.token)];
    if (!std::isfinite(value)) continue;
    if (count.in_prompt || count.in_answer > 0) {
      value = value > 0.0f ? value / params.repetition_penalty : value * params.repetition_penalty;
    }
    if (count.in_answer > 0) {
      value -= params.frequency_penalty * static_cast<float>(count.in_answer);
      value -= params.presence_penalty;
    }
    value = finite(value);
  }
}

// The end of the list of tokens ordered by falling value, equal values by rising id: those with a
// larger key are in, and those with this key up to `last`.
struct Cut {
  std::int32_t key = std::numeric_limits<std::int32_t>::min();
  std::size_t last = std::numeric_limits<std::size_t>::max();

  bool keeps(float value, std::size_t i) const {
    const std::int32_t k = order_key(value);
    return k > key || (k == key && i <= last);
  }
};

// The shortest such list whose weights reach `target` (> 0). Instead of sorting, the weights are
// summed by the leading bits of the key; the bin in which the target falls is then cut finer.
template <typename Weight>
Cut shortest_list(std::span<const float> y, double target, const Weight& weight) {
  constexpr int kBins = 2048;
  double bins[kBins];
  std::uint32_t prefix = 0;
  double above = 0.0;  // the weight of all keys over the prefix
  int known = 0;       // leading bits that are decided
  for (const int bits : {11, 11, 10}) {
    const int shift = 32 - known - bits;
    const std::uint32_t mask = (1u << bits) - 1u;
    for (int b = 0; b < (1 << bits); ++b) bins[b] = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::uint32_t key = static_cast<std::uint32_t>(order_key(y[i])) ^ 0x80000000u;
      if (known == 0 || key >> (32 - known) == prefix) bins[(key >> shift) & mask] += weight(i);
    }
    // Rounding may leave the target just out of reach: then the lowest bin that weighs something.
    std::uint32_t chosen = mask;
    double above_chosen = above;
    double sum = above;
    for (std::uint32_t b = mask + 1; b-- > 0;) {
      if (bins[b] <= 0.0) continue;
      chosen = b;
      above_chosen = sum;
      sum += bins[b];
      if (sum >= target) break;
    }
    above = above_chosen;
    prefix = (prefix << bits) | chosen;
    known += bits;
  }
  Cut cut;
  cut.key = static_cast<std::int32_t>(prefix ^ 0x80000000u);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (order_key(y[i]) != cut.key) continue;
    cut.last = i;
    above += weight(i);
    if (above >= target) break;
  }
  return cut;
}

// Sums of blocks first, so that the walk enters only the block that holds the answer.
constexpr std::size_t kDrawBlock = 1024;

double total_of(std::span<const float> e) {
  double total = 0.0;
  for (std::size_t b = 0; b < e.size(); b += kDrawBlock) {
    total += sum_of(e.data() + b, e.size() - b < kDrawBlock ? e.size() - b : kDrawBlock);
  }
  return total;
}

// `uniform` < 1, so the target lies below the total, which the same additions reach again here.
std::size_t draw(std::span<const float> e, double uniform) {
  const double target = uniform * total_of(e);
  double running = 0.0;
  std::size_t last = 0;
  for (std::size_t begin = 0; begin < e.size(); begin += kDrawBlock) {
    const std::size_t count = e.size() - begin < kDrawBlock ? e.size() - begin : kDrawBlock;
    const double next = running + sum_of(e.data() + begin, count);
    if (next > target) {
      for (std::size_t i = begin; i < begin + count; ++i) {
        if (e[i] <= 0.0f) continue;
        last = i;
        running += static_cast<double>(e[i]);
        if (running > target) break;
      }
      // Token by token the sum may round to just below the block's: then its last token.
      return last;
    }
    running = next;
  }
  return last;
}

// The tokens still in play, in ascending id. y <= 0 and never NaN, so a smaller magnitude is a
// larger value. Dropping most tokens early is what makes the exact cuts below cheap.
struct Candidates {
  std::span<float> y;
  std::span<float> e;    // exp(y), once made
  std::span<float> ids;  // int32 bits; meaningful once `listed`
  bool listed = false;

  std::size_t size() const { return y.size(); }
  std::int32_t id(std::size_t i) const {
    return listed ? std::bit_cast<std::int32_t>(ids[i]) : static_cast<std::int32_t>(i);
  }
  // Moves those that stay to the front.
  template <typename Stays>
  void filter(const Stays& stays) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (!stays(i)) continue;
      const std::int32_t token = id(i);
      y[kept] = y[i];
      e[kept] = e[i];
      ids[kept++] = std::bit_cast<float>(token);
    }
    y = y.first(kept);
    e = e.first(kept);
    listed = true;
  }
};

// A value that at least k of y reach: the k-th largest of the maxima of many groups.
float reached_by(std::span<const float> y, std::size_t k, std::span<float> maxima) {
  const std::size_t groups = 4 * k;
  const std::size_t length = (y.size() + groups - 1) / groups;
  if (length < 8) return -kInfinity;
  std::size_t count = 0;
  for (std::size_t begin = 0; begin < y.size(); begin += length) {
    const float* group = y.data() + begin;
    const std::size_t size = y.size() - begin < length ? y.size() - begin : length;
    std::int32_t least = kInfinityBits;
    for (std::size_t i = 0; i < size; ++i) {
      const std::int32_t magnitude = std::bit_cast<std::int32_t>(group[i]) & 0x7FFFFFFF;
      least = magnitude < least ? magnitude : least;
    }
    maxima[count++] = -std::bit_cast<float>(least);
  }
  if (count < k) return -kInfinity;
  float* const kth = maxima.data() + (k - 1);
  std::nth_element(maxima.data(), kth, maxima.data() + count, std::greater<float>());
  return *kth;
}

void keep_top_k(Candidates& tokens, std::size_t k) {
  const float bound = reached_by(tokens.y, k, tokens.e);
  if (bound > -kInfinity) tokens.filter([&](std::size_t i) { return tokens.y[i] >= bound; });
  const Cut cut = shortest_list(tokens.y, static_cast<double>(k), [](std::size_t) { return 1.0; });
  tokens.filter([&](std::size_t i) { return cut.keeps(tokens.y[i], i); });
}

void keep_top_p(Candidates& tokens, float top_p) {
  const double target = static_cast<double>(top_p) * total_of(tokens.e);
  // Most tokens weigh next to nothing. If those over a bound hold the target, the cut is among
  // them.
  for (const float bound : {-3.5f, -6.0f, -10.0f}) {
    if (tokens.size() < 1024) break;
    double lanes[8] = {};
    std::size_t i = 0;
    for (; i + 8 <= tokens.size(); i += 8) {
      for (std::size_t l = 0; l < 8; ++l) {
        lanes[l] += static_cast<double>(tokens.y[i + l] >= bound ? tokens.e[i + l] : 0.0f);
      }
    }
    double held = 0.0;
    for (const double lane : lanes) held += lane;
    // The margin covers the rounding of sums in different orders.
    if (held < target * (1.0 + 1e-9)) continue;
    tokens.filter([&](std::size_t t) { return tokens.y[t] >= bound; });
    break;
  }
  const Cut cut = shortest_list(tokens.y, target,
                                [&](std::size_t i) { return static_cast<double>(tokens.e[i]); });
  tokens.filter([&](std::size_t i) { return cut.keeps(tokens.y[i], i); });
}

Status field_error(const char* field, double value, const char* expected) {
  char text[160];
  std::snprintf(text, sizeof text, "%s is %g; expected %s", field, value, expected);
  return invalid_argument(text);
}

}  // namespace

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

Status check_sampling(const SamplingParams& params) {
  // Written so that a NaN fails every test.
  if (!(params.temperature >= 0.0f && params.temperature <= FLT_MAX)) {
    return field_error("temperature", params.temperature, "a finite number of at least 0");
  }
  if (params.top_k < 0) {
    return field_error("top_k", params.top_k, "a whole number of at least 0 (0 keeps all tokens)");
  }
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    return field_error("top_p", params.top_p, "a number above 0 and at most 1");
  }
  if (!(params.min_p >= 0.0f && params.min_p < 1.0f)) {
    return field_error("min_p", params.min_p, "a number from 0 to below 1");
  }
  if (!(params.repetition_penalty > 0.0f && params.repetition_penalty <= FLT_MAX)) {
    return field_error("repetition_penalty", params.repetition_penalty,
                       "a finite number above 0 (1 changes nothing)");
  }
  if (!(params.presence_penalty >= -2.0f && params.presence_penalty <= 2.0f)) {
    return field_error("presence_penalty", params.presence_penalty, "a number from -2 to 2");
  }
  if (!(params.frequency_penalty >= -2.0f && params.frequency_penalty <= 2.0f)) {
    return field_error("frequency_penalty", params.frequency_penalty, "a number from -2 to 2");
  }
  return ok_status();
}

float uniform_at(std::uint64_t seed, std::uint64_t position) {
  const PhiloxBlock counter = {
      {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0}};
  const PhiloxBlock random = philox4x32_10(counter, static_cast<std::uint32_t>(seed),
                                           static_cast<std::uint32_t>(seed >> 32));
  return static_cast<float>(random.word[0] >> 8) * 0x1p-24f;
}

SampledToken sample(std::span<const float> logits, const SamplingParams& params,
                    const LogitChanges& changes, std::uint64_t position,
                    std::vector<float>& scratch) {
  Scan scan = scan_logits(logits);
  if (!scan.usable) return {};
  const auto chosen = [&](std::size_t i) {
    return SampledToken{static_cast<std::int32_t>(i), logits[i]};
  };
  const bool penalised = has_penalties(params) && !changes.counts.empty();
  const bool changed = penalised || !changes.bias.empty() || !changes.mask.empty();
  const std::size_t vocabulary = logits.size();
  if (params.temperature == 0.0f && !changed) {
    return chosen(static_cast<std::size_t>(scan.argmax));
  }

  if (scratch.size() < 3 * vocabulary) scratch.resize(3 * vocabulary);
  std::span<float> y(scratch.data(), vocabulary);
  std::span<float> e(scratch.data() + vocabulary, vocabulary);
  std::span<float> ids(scratch.data() + 2 * vocabulary, vocabulary);
  const float* x = logits.data();
  if (changed) {
    std::memcpy(y.data(), x, vocabulary * sizeof(float));
    apply_bias(changes.bias, y);
    if (!changes.mask.empty()) apply_mask(changes.mask, y);
    if (penalised) apply_penalties(params, changes.counts, y);
    scan = scan_logits(y);
    if (!scan.usable) return {};
    if (params.temperature == 0.0f) return chosen(static_cast<std::size_t>(scan.argmax));
    x = y.data();
  }

  // Subtracting the maximum before dividing keeps a small temperature from overflowing.
  if (scan.max == kInfinity) {
    for (std::size_t i = 0; i < vocabulary; ++i) y[i] = x[i] == kInfinity ? 0.0f : -kInfinity;
  } else {
    const float max = scan.max;
    const float temperature = params.temperature;
    for (std::size_t i = 0; i < vocabulary; ++i) y[i] = (x[i] - max) / temperature;
  }

  Candidates tokens = {y, e, ids};
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < vocabulary) {
    keep_top_k(tokens, static_cast<std::size_t>(params.top_k));
  }

  // The same bits on every instruction set, so the best may do it.
  static const CpuOps& ops = cpu_ops(best_isa());
  const std::size_t count = tokens.size();
  ops.exp_minus(y.data(), 0.0f, e.data(), static_cast<std::int64_t>(count));
  for (std::size_t i = 0; i < count; ++i) e[i] = y[i] >= -FLT_MAX ? e[i] : 0.0f;

  if (params.top_p < 1.0f) keep_top_p(tokens, params.top_p);
  if (params.min_p > 0.0f) {
    // The heaviest weighs exp(0), which is exactly 1.
    for (float& weight : tokens.e) weight = weight >= params.min_p ? weight : 0.0f;
  }
  // The middle of the uniform number's step: 0 itself would pick a first token of no weight.
  const double uniform = static_cast<double>(uniform_at(params.seed, position)) + 0x1p-25;
  return chosen(static_cast<std::size_t>(tokens.id(draw(tokens.e, uniform))));
}

}  // namespace liquidgemm
