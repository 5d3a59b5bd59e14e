#include "model/rope.h"

#include <cmath>
#include <numbers>

namespace liquidgemm {
namespace {

double scaled_frequency(double frequency, const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: return frequency;
    case RopeScaling::Kind::kLinear: return frequency / scaling.factor;
    case RopeScaling::Kind::kLlama3: break;
  }
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = static_cast<double>(scaling.original_max_position);
  if (wavelength < original / scaling.high_freq_factor) return frequency;
  if (wavelength > original / scaling.low_freq_factor) return frequency / scaling.factor;
  const double blend = (original / wavelength - scaling.low_freq_factor) /
                       (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0 - blend) * frequency / scaling.factor + blend * frequency;
}

}  // namespace

RopeTable make_rope_table(const ModelConfig& config, std::int64_t positions) {
  RopeTable table;
  table.half = config.head_dim / 2;
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < table.half; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(config.head_dim);
    frequencies.push_back(
        scaled_frequency(std::pow(config.rope_theta, -exponent), config.rope_scaling));
  }
  table.cos.reserve(static_cast<std::size_t>(positions * table.half));
  table.sin.reserve(static_cast<std::size_t>(positions * table.half));
  for (std::int64_t position = 0; position < positions; ++position) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      table.cos.push_back(static_cast<float>(std::cos(angle)));
      table.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

}  // namespace liquidgemm
