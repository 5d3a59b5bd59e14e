#include <algorithm>
#include <cmath>

#include "gemm/cpu/kernels.h"
#include "gemm/numerics.h"

namespace liquidgemm::cpu {
namespace {

bool largest(const float* x, std::int64_t k, float* result) {
  bool finite = true;
  float value = 0.0f;
  for (std::int64_t i = 0; i < k; ++i) {
    finite &= std::isfinite(x[i]);
    value = std::max(value, std::fabs(x[i]));
  }
  *result = value;
  return finite;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    x8[i] = numerics::quantize_value(x[i], reciprocal);
    sum += x8[i];
  }
  return sum;
}

}  // namespace

const QuantizeKernel kQuantizeScalar = {largest, quantize};

}  // namespace liquidgemm::cpu
