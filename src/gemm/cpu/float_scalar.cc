// Float sums in plain C++. fmaf is correctly rounded in software where the machine has no FMA, so
// the bits are those of the other kernels; it is then slow, which is why this is the last resort.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/half.h"
#include "gemm/cpu/kernels.h"

namespace liquidgemm::cpu {
namespace {

constexpr int kRows = 16;

float value_of(float weight) { return weight; }
float value_of(std::uint16_t weight) { return f16_to_float(weight); }

template <typename Weight>
void run(const FloatJob& job, std::int64_t panel_begin, std::int64_t panel_end, float*) {
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const Weight* weights = static_cast<const Weight*>(job.panels) + panel * job.k * kRows;
    const std::int64_t row0 = panel * kRows;
    const std::int64_t rows = std::min<std::int64_t>(kRows, job.n - row0);
    for (std::int64_t token = 0; token < job.m; ++token) {
      const float* x = job.x + token * job.k;
      float total[kRows] = {};
      for (std::int64_t begin = 0; begin < job.k; begin += job.block) {
        const std::int64_t end = std::min(begin + job.block, job.k);
        float block[kRows] = {};
        for (std::int64_t k = begin; k < end; ++k) {
          for (int r = 0; r < kRows; ++r) {
            block[r] = std::fmaf(x[k], value_of(weights[k * kRows + r]), block[r]);
          }
        }
        for (int r = 0; r < kRows; ++r) total[r] += block[r];
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const float y = job.bias ? total[r] + job.bias[row0 + r] : total[r];
        job.out[token * job.ld_out + row0 + r] = y;
      }
    }
  }
}

}  // namespace

const FloatKernel kFloatScalar = {run<float>, 1, kRows, 0};
const FloatKernel kFp16Scalar = {run<std::uint16_t>, 1, kRows, 0};

}  // namespace liquidgemm::cpu
