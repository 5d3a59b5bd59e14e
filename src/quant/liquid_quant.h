// LiquidQuant (LQQ): 4-bit weights in two integer levels.
//
//   level 1, per output channel   s_ch = max|w| / 119 (1 for a zero row)
//   level 2, per group along K    w[n][k] ~ s_ch[n] * (q * s + a - 128)
//                                 q 0..15, integer step s 1..16, integer offset a 0..255
//
// Every code in use keeps q * s + a <= 255, so four codes unpack with one 32-bit multiply-add,
// `word * s + a * 0x01010101`, and no carry crosses a byte. Method: arXiv 2509.01229, section 4.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm {

inline constexpr int kLevel1Max = 119;  // level 1 stays in [-119, 119]: the protective range
inline constexpr int kMaxCode = 15;
inline constexpr int kMaxStep = 16;

// Whether the format holds an [n, k] layer in 4 bits; other linear layers are stored as INT8.
constexpr bool liquid_quant_takes(std::int64_t n, std::int64_t k) {
  return n % 8 == 0 && k % 32 == 0;
}

// How (s, a) of a group are chosen.
enum class StepRule {
  kRound,   // s = round(range / 15), code 16 clamped to 15: the paper's rule
  kCeil,    // s = ceil(range / 15): no clamping, coarser
  kSearch,  // least squared error over all valid (s, a), exact
};
Result<StepRule> parse_step_rule(std::string_view name);  // "round", "ceil", "search"
std::string_view step_rule_name(StepRule rule);

struct GroupParameters {
  std::uint8_t step = 1;
  std::uint8_t offset = 0;
};

// Rows of a weight matrix in checkpoint form (docs/format.md).
struct LiquidRows {
  std::int64_t rows = 0;
  std::int64_t k = 0;
  int group_size = 64;
  std::vector<std::uint8_t> packed;  // [rows, k / 2], low nibble = even k
  std::vector<std::uint8_t> step;    // [rows, groups]
  std::vector<std::uint8_t> offset;  // [rows, groups]
  std::vector<float> channel_scale;  // [rows]
  std::int64_t groups() const { return (k + group_size - 1) / group_size; }
};

// Level 1 of one row: the scale and the levels w / s_ch, unrounded, in [-119, 119].
// Returns the scale. A non-finite weight is kInvalidArgument naming the column.
Result<float> level1(std::span<const float> weights, std::span<float> levels);

// Level 2 of one group. `levels` are w / s_ch (unrounded or integers); codes.size() ==
// levels.size() <= 128. `importance` is empty or one non-negative weight for each level (the
// diagonal of the calibration Hessian): kSearch then minimises the weighted squared error.
GroupParameters quantize_group(StepRule rule, std::span<const float> levels,
                               std::span<const float> importance, std::span<std::uint8_t> codes);

// Whole rows, row-major [rows, k]; k even. group_size 32, 64 or 128; the last group may be short.
Result<LiquidRows> quantize_rows(std::span<const float> weights, std::int64_t rows, std::int64_t k,
                                 int group_size, StepRule rule,
                                 std::span<const float> importance = {});

// s_ch * (q * s + a - 128) for every weight, row-major [rows, k].
void dequantize_rows(const LiquidRows& rows, std::span<float> out);

// The checks that every reader of LiquidQuant data makes: 1 <= s <= 16, largest code in the group
// times s plus a at most 255, s_ch finite, positive and normal. `tensor` is the module's name;
// the error names it, the row and the group. row0 is added to the rows in messages.
Status check_liquid_rows(std::span<const std::uint8_t> packed, std::span<const std::uint8_t> step,
                         std::span<const std::uint8_t> offset, std::span<const float> channel_scale,
                         std::int64_t rows, std::int64_t k, int group_size,
                         const std::string& tensor, std::int64_t row0 = 0);

// Symmetric INT8 per row, scale = max|w| / 127 (1 for a zero row). Used for embeddings, lm_head,
// W8A8, and layers whose shape LiquidQuant does not take.
struct Int8Rows {
  std::int64_t rows = 0;
  std::int64_t k = 0;
  std::vector<std::int8_t> values;   // [rows, k]
  std::vector<float> channel_scale;  // [rows]
};
Result<Int8Rows> quantize_rows_int8(std::span<const float> weights, std::int64_t rows,
                                    std::int64_t k);
Status check_int8_scales(std::span<const float> channel_scale, const std::string& tensor);

// Rows of binary16, at any address; k values each. An infinity or a NaN is an error naming the row
// and the column; row0 as above.
Status check_fp16_rows(std::span<const std::uint8_t> rows, std::int64_t k,
                       const std::string& tensor, std::int64_t row0 = 0);
bool fp16_finite(std::span<const std::uint8_t> values);

}  // namespace liquidgemm
