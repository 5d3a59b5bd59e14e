#include "quant/liquid_quant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/status_macros.h"
#include "quant/step_search.h"

namespace liquidgemm {
namespace {

constexpr std::array<std::string_view, 3> kRuleNames = {"round", "ceil", "search"};

// max|w|, or the column of the first weight that is not finite.
Result<float> largest_magnitude(std::span<const float> weights) {
  float largest = 0;
  bool finite = true;
  for (const float weight : weights) {
    const float magnitude = std::fabs(weight);
    finite &= magnitude <= std::numeric_limits<float>::max();  // false for NaN too
    largest = std::max(largest, magnitude);
  }
  if (finite) return largest;
  for (std::size_t column = 0; column < weights.size(); ++column) {
    if (!std::isfinite(weights[column])) {
      return invalid_argument("column " + std::to_string(column) + ": the weight is " +
                              (std::isnan(weights[column]) ? "NaN" : "infinite") +
                              ", expected a finite number");
    }
  }
  return internal_error("a weight is not finite");
}

// max|w| / divisor; 0 for a row that is stored as zeros. A scale must be a normal number, so
// magnitudes around 1e-36 and below count as zero.
float row_scale(float largest, int divisor) {
  const float scale = largest / static_cast<float>(divisor);
  return scale < std::numeric_limits<float>::min() ? 0.0f : scale;
}

bool valid_scale(float scale) { return std::isnormal(scale) && scale > 0; }

// Level 2 as the paper has it: on levels rounded to integers, the offset at their minimum.
// ceil: 15 s >= range, so no code passes 15. round: a code may reach 16 and is clamped.
// Neither passes 255: q s <= u + s / 2 <= max - min + 8, so q s + a <= max + 8 + 128 <= 255.
GroupParameters quantize_by_range(StepRule rule, std::span<const float> levels,
                                  std::span<std::uint8_t> codes) {
  int low = kLevel1Max;
  int high = -kLevel1Max;
  for (const float level : levels) {
    const int integer = static_cast<int>(std::rint(level));
    low = std::min(low, integer);
    high = std::max(high, integer);
  }
  const int range = high - low;
  // range / 15 is never halfway between integers.
  const int step =
      std::max(1, (range + (rule == StepRule::kCeil ? kMaxCode - 1 : kMaxCode / 2)) / kMaxCode);
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const int shifted = static_cast<int>(std::rint(levels[k])) - low;
    codes[k] = static_cast<std::uint8_t>(std::min(kMaxCode, (shifted + step / 2) / step));
  }
  return {static_cast<std::uint8_t>(step), static_cast<std::uint8_t>(low + kLevelBias)};
}

Status check_shape(std::int64_t weights, std::int64_t rows, std::int64_t k) {
  if (rows < 0 || k < 0 || (rows > 0 && k > weights / rows) || rows * k != weights) {
    return invalid_argument("quantize: " + std::to_string(weights) + " weights for shape [" +
                            std::to_string(rows) + ", " + std::to_string(k) + "]");
  }
  return ok_status();
}

bool valid_group_size(int size) { return size == 32 || size == 64 || size == 128; }

// Negative or non-finite importance has no meaning; a group of zeros says nothing.
bool usable(std::span<const float> importance) {
  float largest = 0;
  for (const float value : importance) largest = std::max(largest, value);
  return largest > 0;
}

Status check_importance(std::span<const float> importance, std::int64_t k) {
  if (importance.empty()) return ok_status();
  if (static_cast<std::int64_t>(importance.size()) != k) {
    return invalid_argument("quantize: " + std::to_string(importance.size()) +
                            " importance values, expected one for each of " + std::to_string(k) +
                            " columns");
  }
  for (std::size_t column = 0; column < importance.size(); ++column) {
    if (!std::isfinite(importance[column]) || importance[column] < 0) {
      return invalid_argument("quantize: importance of column " + std::to_string(column) +
                              " is not a finite number of at least 0");
    }
  }
  return ok_status();
}

}  // namespace

Result<StepRule> parse_step_rule(std::string_view name) {
  for (std::size_t i = 0; i < kRuleNames.size(); ++i) {
    if (name == kRuleNames[i]) return static_cast<StepRule>(i);
  }
  return invalid_argument("unknown step rule \"" + std::string(name) +
                          "\", expected round, ceil or search");
}

std::string_view step_rule_name(StepRule rule) {
  return kRuleNames[static_cast<std::size_t>(rule)];
}

Result<float> level1(std::span<const float> weights, std::span<float> levels) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const float largest, largest_magnitude(weights));
  const float scale = row_scale(largest, kLevel1Max);
  if (scale == 0.0f) {
    std::fill(levels.begin(), levels.end(), 0.0f);
    return 1.0f;
  }
  // The rounded scale may put the largest weight a hair outside.
  constexpr float kBound = static_cast<float>(kLevel1Max);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    levels[i] = std::clamp(weights[i] / scale, -kBound, kBound);
  }
  return scale;
}

GroupParameters quantize_group(StepRule rule, std::span<const float> levels,
                               std::span<const float> importance, std::span<std::uint8_t> codes) {
  if (levels.empty()) return {};
  if (rule != StepRule::kSearch) return quantize_by_range(rule, levels, codes);
  if (!usable(importance)) importance = {};
  const GroupParameters parameters = search_step(levels, importance);
  const int origin = static_cast<int>(parameters.offset) - kLevelBias;
  for (std::size_t k = 0; k < levels.size(); ++k) {
    codes[k] = static_cast<std::uint8_t>(nearest_code(levels[k], origin, parameters.step));
  }
  return parameters;
}

Result<LiquidRows> quantize_rows(std::span<const float> weights, std::int64_t rows, std::int64_t k,
                                 int group_size, StepRule rule, std::span<const float> importance) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_shape(static_cast<std::int64_t>(weights.size()), rows, k));
  LIQUIDGEMM_RETURN_IF_ERROR(check_importance(importance, k));
  if (!valid_group_size(group_size)) {
    return invalid_argument("quantize: group size " + std::to_string(group_size) +
                            ", expected 32, 64 or 128");
  }
  if (k % 2 != 0) {
    return invalid_argument("quantize: " + std::to_string(k) +
                            " columns, expected an even number (two codes share a byte)");
  }
  LiquidRows out;
  out.rows = rows;
  out.k = k;
  out.group_size = group_size;
  const std::int64_t groups = out.groups();
  out.packed.resize(static_cast<std::size_t>(rows * (k / 2)));
  out.step.resize(static_cast<std::size_t>(rows * groups));
  out.offset.resize(static_cast<std::size_t>(rows * groups));
  out.channel_scale.resize(static_cast<std::size_t>(rows));

  std::vector<float> levels(static_cast<std::size_t>(k));
  std::array<std::uint8_t, kMaxGroup> codes;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto row_weights =
        weights.subspan(static_cast<std::size_t>(row * k), static_cast<std::size_t>(k));
    Result<float> scale = level1(row_weights, levels);
    if (!scale.ok()) return scale.status().with_context("row " + std::to_string(row));
    out.channel_scale[static_cast<std::size_t>(row)] = *scale;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = group * group_size;
      const std::int64_t count = std::min<std::int64_t>(group_size, k - first);
      const auto begin = static_cast<std::size_t>(first);
      const auto size = static_cast<std::size_t>(count);
      const GroupParameters parameters =
          quantize_group(rule, std::span(levels).subspan(begin, size),
                         importance.empty() ? importance : importance.subspan(begin, size),
                         std::span(codes).first(size));
      const auto index = static_cast<std::size_t>(row * groups + group);
      out.step[index] = parameters.step;
      out.offset[index] = parameters.offset;
      std::uint8_t* bytes = out.packed.data() + (row * k + first) / 2;
      for (std::size_t pair = 0; pair < size / 2; ++pair) {
        bytes[pair] = static_cast<std::uint8_t>(codes[2 * pair] | (codes[2 * pair + 1] << 4));
      }
    }
  }
  return out;
}

void dequantize_rows(const LiquidRows& rows, std::span<float> out) {
  const std::uint8_t* bytes = rows.packed.data();
  std::size_t group = 0;
  std::size_t at = 0;
  for (const float scale : rows.channel_scale) {
    for (std::int64_t first = 0; first < rows.k; first += rows.group_size, ++group) {
      const std::int64_t pairs = std::min<std::int64_t>(rows.group_size, rows.k - first) / 2;
      const int step = rows.step[group];
      const int origin = rows.offset[group] - kLevelBias;
      for (std::int64_t pair = 0; pair < pairs; ++pair, ++bytes, at += 2) {
        out[at] = scale * static_cast<float>((*bytes & 0x0F) * step + origin);
        out[at + 1] = scale * static_cast<float>((*bytes >> 4) * step + origin);
      }
    }
  }
}

Status check_liquid_rows(std::span<const std::uint8_t> packed, std::span<const std::uint8_t> step,
                         std::span<const std::uint8_t> offset, std::span<const float> channel_scale,
                         std::int64_t rows, std::int64_t k, int group_size,
                         const std::string& tensor, std::int64_t row0) {
  const std::int64_t groups = (k + group_size - 1) / group_size;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto place = [&] { return tensor + ": row " + std::to_string(row0 + row); };
    const float scale = channel_scale[static_cast<std::size_t>(row)];
    if (!valid_scale(scale)) {
      return corrupt(place() + ": weight_scale is " + std::to_string(scale) +
                     ", expected a finite, positive and normal number");
    }
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto index = static_cast<std::size_t>(row * groups + group);
      const int s = step[index];
      const int a = offset[index];
      if (s < 1 || s > kMaxStep) {
        return corrupt(place() + ", group " + std::to_string(group) + ": group_scale is " +
                       std::to_string(s) + ", expected 1 to 16");
      }
      if (kMaxCode * s + a <= 255) continue;  // no code can overflow
      const std::int64_t first = group * group_size;
      const std::int64_t last = std::min(k, first + group_size);
      const std::uint8_t* bytes = packed.data() + (row * k + first) / 2;
      int largest = 0;
      for (std::int64_t i = 0; i < (last - first) / 2; ++i) {
        largest = std::max({largest, bytes[i] & 0x0F, bytes[i] >> 4});
      }
      if (largest * s + a > 255) {
        return corrupt(place() + ", group " + std::to_string(group) + ": code " +
                       std::to_string(largest) + " * group_scale " + std::to_string(s) +
                       " + group_offset " + std::to_string(a) + " is above 255");
      }
    }
  }
  return ok_status();
}

Result<Int8Rows> quantize_rows_int8(std::span<const float> weights, std::int64_t rows,
                                    std::int64_t k) {
  LIQUIDGEMM_RETURN_IF_ERROR(check_shape(static_cast<std::int64_t>(weights.size()), rows, k));
  Int8Rows out;
  out.rows = rows;
  out.k = k;
  out.values.assign(weights.size(), 0);
  out.channel_scale.assign(static_cast<std::size_t>(rows), 1.0f);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto first = static_cast<std::size_t>(row * k);
    const auto row_weights = weights.subspan(first, static_cast<std::size_t>(k));
    Result<float> largest = largest_magnitude(row_weights);
    if (!largest.ok()) return largest.status().with_context("row " + std::to_string(row));
    const float scale = row_scale(*largest, 127);
    if (scale == 0.0f) continue;
    out.channel_scale[static_cast<std::size_t>(row)] = scale;
    for (std::size_t i = 0; i < row_weights.size(); ++i) {
      const float value = std::clamp(std::rint(row_weights[i] / scale), -127.0f, 127.0f);
      out.values[first + i] = static_cast<std::int8_t>(value);
    }
  }
  return out;
}

Status check_int8_scales(std::span<const float> channel_scale, const std::string& tensor) {
  for (std::size_t row = 0; row < channel_scale.size(); ++row) {
    if (!valid_scale(channel_scale[row])) {
      return corrupt(tensor + ": row " + std::to_string(row) + ": weight_scale is " +
                     std::to_string(channel_scale[row]) +
                     ", expected a finite, positive and normal number");
    }
  }
  return ok_status();
}

bool fp16_finite(std::span<const std::uint8_t> values) {
  constexpr int kExponent = 0x7C;  // of the high byte: all ones say infinity or NaN
  bool finite = true;
  for (std::size_t i = 1; i < values.size(); i += 2) {
    finite &= (values[i] & kExponent) != kExponent;
  }
  return finite;
}

Status check_fp16_rows(std::span<const std::uint8_t> rows, std::int64_t k,
                       const std::string& tensor, std::int64_t row0) {
  if (fp16_finite(rows)) return ok_status();
  std::size_t at = 0;
  while (fp16_finite(rows.subspan(at, 2))) at += 2;
  const auto value = static_cast<std::int64_t>(at / 2);
  return corrupt(tensor + ": row " + std::to_string(row0 + value / k) + ", column " +
                 std::to_string(value % k) + ": the weight is not a finite number");
}

}  // namespace liquidgemm
