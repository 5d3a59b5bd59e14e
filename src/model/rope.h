// Rotary position tables: cos and sin of every angle, made on the host in double precision.
#pragma once

#include <cstdint>
#include <vector>

#include "model/checkpoint/config.h"

namespace liquidgemm {

struct RopeTable {
  std::int64_t half = 0;   // head_dim / 2
  std::vector<float> cos;  // [positions, half]
  std::vector<float> sin;
};

// Angle i of position p is p * f_i, f_i = theta^(-2i / head_dim), scaled as the config says.
// Llama 3.1's scaling: wavelengths above original_max / low_freq_factor are divided by factor,
// below original_max / high_freq_factor kept, between blended linearly in the ratio.
RopeTable make_rope_table(const ModelConfig& config, std::int64_t positions);

}  // namespace liquidgemm
