// The shapes the project's speed goals are set on: the linear layers of three models, as (N, K).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct Shape {
  std::string name;  // "l3-8b.gate_up", or "4096x14336" for one that has no name
  std::int64_t n = 0;
  std::int64_t k = 0;
};

// The 11 goal shapes and the 12 token counts: 132 cells.
std::span<const Shape> goal_shapes();
std::span<const std::int64_t> goal_tokens();
// What `liquid bench gemm` measures when nothing is asked for: under a minute on an H200.
std::span<const Shape> short_shapes();
std::span<const std::int64_t> short_tokens();
// What the ablation measures; its kernels are compiled for these token counts and groups alone.
std::span<const Shape> ablation_shapes();
std::span<const std::int64_t> ablation_tokens();
inline constexpr int kAblationGroupSize = 64;

// Where no schedule was tuned by hand: layers and token counts that are not the goals'. A kernel
// that is fast only where it was tuned falls behind here.
std::span<const Shape> other_shapes();
std::span<const std::int64_t> between_tokens();

// "4096x14336", a name, a model ("l2-7b": all of its shapes) or "others".
Result<std::vector<Shape>> parse_shape(std::string_view text);

// "64", "1-512" (both ends belong to it), "32-64:8" (in steps of 8) or "between".
Result<std::vector<std::int64_t>> parse_tokens(std::string_view text);

// The two speeds that bound a W4A8 product on one chip.
struct Ceilings {
  double read_bytes_per_second = 0.0;       // all SMs reading device memory
  double int8_operations_per_second = 0.0;  // wgmma, no memory traffic
};

// Bytes of weights a product must read: codes and one (step, offset) pair a group.
double weight_bytes(const Shape& shape, int group_size);
// max(weights over the read speed, multiply-adds over the INT8 rate): no kernel is faster.
double floor_seconds(const Shape& shape, std::int64_t m, int group_size, const Ceilings& ceilings);

}  // namespace liquidgemm::bench
