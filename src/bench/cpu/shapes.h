// What `liquid bench gemm --device cpu` measures when no shape is asked for.
#pragma once

#include <cstdint>
#include <span>

#include "bench/goal_shapes.h"

namespace liquidgemm::bench::cpu {

// Two layers of a 7B model and two of SmolLM2-135M, whose width is no multiple of 128.
std::span<const Shape> short_shapes();
std::span<const std::int64_t> short_tokens();
// Those, more of the 7B model's, and the layers of a model with 1B weights.
std::span<const Shape> all_shapes();
std::span<const std::int64_t> all_tokens();

}  // namespace liquidgemm::bench::cpu
