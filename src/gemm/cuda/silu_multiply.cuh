// numerics::silu(gate) * up for several values at once: the same bits in half the instructions, and
// without a branch for each value, so that their latencies overlap.
//
// For gates of usual size three things are simpler: nothing is clamped; rint() is an addition of
// 1.5 * 2^23, whose sum has the integer in its lowest bits, so that 2^n is added to the exponent
// there; and the quotient, by a divisor far from the ends of the range, is that of the fused steps
// by which every division is made, without what guards them. (For tiny gates, whose quotients need
// not be normal numbers, the divisor is 2, and no step but the last one rounds what counts.)
// A test compares all 2^32 gates (CudaSilu.EveryGateGivesTheContractsBits).
#pragma once

#include "gemm/cuda/ptx/arithmetic.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {

inline constexpr float kLargestUsualGate = 80.0f;

// x / (1 + exp(-x)) for a gate of usual size.
__device__ __forceinline__ float usual_silu(float x) {
  using namespace numerics;
  const float t = -x;
  const float shifted = t * kLog2E + kRoundingAddend;
  const float p = exp_polynomial(t, shifted - kRoundingAddend);
  const float e = __int_as_float(__float_as_int(p) + (__float_as_int(shifted) << 23));
  const float divisor = 1.0f + e;
  float reciprocal = ptx::reciprocal_approximate(divisor);
  reciprocal = __fmaf_rn(__fmaf_rn(-divisor, reciprocal, 1.0f), reciprocal, reciprocal);
  const float quotient = x * reciprocal;
  // An excess of +0 is taken off, so that the quotient -0 stays what it is.
  const float excess = __fmaf_rn(divisor, quotient, -x);
  return __fmaf_rn(-excess, reciprocal, quotient);
}

// All lanes of a warp together: what a single one has to do differently all do, since the assembler
// keeps addresses in uniform registers only where no branch is a lane's own (docs/kernels.md).
template <int kCount>
__device__ __forceinline__ void silu_multiply(const float (&gates)[kCount],
                                              const float (&ups)[kCount], float (&values)[kCount]) {
  float largest = 0.0f;
#pragma unroll
  for (const float gate : gates) largest = fmaxf(largest, fabsf(gate));
  // A NaN, which the maximum does not see, stays one in either way.
  if (__all_sync(0xFFFFFFFFu, largest <= kLargestUsualGate)) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = usual_silu(gates[i]) * ups[i];
  } else {
    // One copy of the code, which chooses registers: it is long, and hardly ever fetched.
#pragma unroll 1
    for (int i = 0; i < kCount; ++i) {
      float gate = gates[0], up = ups[0];
#pragma unroll
      for (int j = 1; j < kCount; ++j) {
        gate = i == j ? gates[j] : gate;
        up = i == j ? ups[j] : up;
      }
      const float value = numerics::silu(gate) * up;
#pragma unroll
      for (int j = 0; j < kCount; ++j) values[j] = i == j ? value : values[j];
    }
  }
}

}  // namespace liquidgemm::cuda
