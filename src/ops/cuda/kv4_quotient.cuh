// numerics::kv4_code for all values of a row: the same codes with one reciprocal for the row's step
// instead of a division for each value.
//
// The step d is a number of f16, so it has 11 significant bits. With q near n / d, n - d q has few
// bits and is exact in one fused step, and the sum q + (n - d q) r, r near 1 / d, is within 2^-19
// of q's last place of n / d before it is rounded. No quotient lies that near to the middle m
// between two floats: n - d m is not 0, for d m would have more bits than n, so it is at least a
// unit of d's last place times m's, which divided by d is 2^-12 of q's last place. So the sum is
// rounded as n / d is. Where q is below 2^-100 the fused step may underflow: the code is 0 either
// way. Nothing overflows, since a row with such a step and middle has values below 2^20.
// A test compares all steps with many values (CudaRows.QuotientsOfEveryStepAreTheContracts).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/cuda/ptx/arithmetic.h"
#include "gemm/numerics.h"

namespace liquidgemm::cuda {

class Kv4Quotient {
 public:
  // Both as rounded to f16.
  __device__ __forceinline__ Kv4Quotient(float step, float middle)
      : step_(step), middle_(middle), reciprocal_(ptx::reciprocal_approximate(step)) {}

  // Whether codes are quotients. Of a constant row, of one that is not finite and of one whose step
  // or middle is beyond f16 all values have code().
  __device__ __forceinline__ bool is_usual() const {
    return step_ > 0.0f && fabsf(middle_) < __int_as_float(0x7F800000);
  }
  // An infinite step has an infinite middle, and NaN for a quotient, which becomes -8.
  __device__ __forceinline__ int code() const {
    if (!(step_ > 0.0f)) return 0;
    return middle_ > 0.0f ? -8 : 7;
  }

  // Of a usual row: the lowest byte is x's code + 8.
  __device__ __forceinline__ std::uint32_t nibble(float x) const {
    const float n = x - middle_;
    const float near = n * reciprocal_;
    const float quotient = __fmaf_rn(__fmaf_rn(-step_, near, n), reciprocal_, near);
    // Between -8 and 7 before or after rint() is the same.
    const float bounded = fminf(fmaxf(quotient, -8.0f), 7.0f);
    return __float_as_uint(bounded + (numerics::kRoundingAddend + 8.0f));
  }

 private:
  float step_, middle_, reciprocal_;
};

}  // namespace liquidgemm::cuda
