// Stored elements to float32: the plain float types and GGUF's block types.
//
// A block holds 32 neighbours of one row. d and m are binary16, q is an integer code:
//   q8_0  {d; int8 q[32]}      w = d * q
//   q4_0  {d; uint8 q[16]}     w = d * (q - 8)
//   q4_1  {d, m; uint8 q[16]}  w = d * q + m
// The 4-bit types pack element i (0..15) in the low half of byte i and element i + 16 in the high
// half.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"

namespace liquidgemm {

// True for the types that convert_to_float reads.
bool converts_to_float(DType dtype);

// Converts `count` elements; `count` is a multiple of the type's block. `stored` need not be
// aligned: safetensors does not promise it. F64 rounds to nearest; the others are exact, except
// q4_1, whose product and sum round once each.
void convert_to_float(DType dtype, const std::byte* stored, std::int64_t count, float* out);

}  // namespace liquidgemm
