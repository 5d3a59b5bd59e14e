// A source whose 4-bit block weights get back the error statistics of real weights.
//
// A Q4_0 or Q4_1 file holds weights on 16-level grids, which flatters any 4-bit quantizer that
// reads it. Quality tables therefore compare against the dithered model: each such weight plus
// uniform noise of half a step either way. Everything else is passed on as it is.
#pragma once

#include <cstdint>
#include <memory>

#include "model/checkpoint/tensor_source.h"

namespace liquidgemm {

// The noise depends on seed, tensor name, row and column only.
std::unique_ptr<TensorSource> dither(std::unique_ptr<TensorSource> source, std::uint64_t seed);

}  // namespace liquidgemm
