// Arithmetic that CUDA has no function for.
#pragma once

namespace liquidgemm::cuda::ptx {

// 1 / x with a relative error below 2^-22; x and the result are normal numbers.
__device__ __forceinline__ float reciprocal_approximate(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The smaller and the larger of two, -0 below 0, or a NaN where one of them is (fminf and fmaxf
// give the other one then).
__device__ __forceinline__ float min_or_nan(float a, float b) {
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
__device__ __forceinline__ float max_or_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

}  // namespace liquidgemm::cuda::ptx
