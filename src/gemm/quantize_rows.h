// Float activations to INT8, a row (token) at a time, as the contract has it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gemm/cpu/kernels.h"
#include "gemm/gemm.h"

namespace liquidgemm {

// Rows of x [m, k] with row stride ld to x8 (row stride ld_out), their scales and their sums:
// bit-equal to reference_quantize_row on every ISA. Runs on the calling thread; k <= kMaxK.
// The machine must run `isa` (check_isa).
void quantize_activations(Isa isa, const float* x, std::int64_t m, std::int64_t k, std::int64_t ld,
                          std::int8_t* x8, std::int64_t ld_out, float* scale, std::int32_t* sum);

// Rows of k values that a thread should quantise at least: fewer are done before another thread has
// woken up. Whole quads, which the same thread then packs (cpu/packed_activations.h), where they
// are not too long.
inline std::int64_t quantize_grain(std::int64_t k) {
  using cpu::kQuad;
  constexpr std::int64_t kValuesOfQuads = 6144;
  constexpr std::int64_t kValues = 16384;
  const std::int64_t quads = kValuesOfQuads / k / kQuad;
  return quads > 0 ? quads * kQuad : std::clamp<std::int64_t>(kValues / k, 1, kQuad);
}

}  // namespace liquidgemm
