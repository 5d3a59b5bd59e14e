// Arithmetic of the special function unit.
#pragma once

namespace liquidgemm::cuda::ptx {

// 1 / x with a relative error below 2^-22; x and the result are normal numbers.
__device__ __forceinline__ float reciprocal_approximate(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace liquidgemm::cuda::ptx
