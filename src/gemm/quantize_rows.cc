#include "gemm/quantize_rows.h"

#include <algorithm>

#include "gemm/cpu/kernels.h"
#include "gemm/numerics.h"

namespace liquidgemm {
namespace {

const cpu::QuantizeKernel& kernel_for(Isa isa) {
#if defined(LIQUIDGEMM_X86_KERNELS)
  if (isa >= Isa::kAvx512Vnni) return cpu::kQuantizeAvx512;
  if (isa == Isa::kAvx2) return cpu::kQuantizeAvx2;
#endif
  (void)isa;
  return cpu::kQuantizeScalar;
}

}  // namespace

void quantize_activations(Isa isa, const float* x, std::int64_t m, std::int64_t k, std::int64_t ld,
                          std::int8_t* x8, std::int64_t ld_out, float* scale, std::int32_t* sum) {
  const cpu::QuantizeKernel& kernel = kernel_for(isa);
  for (std::int64_t i = 0; i < m; ++i) {
    float largest = 0.0f;
    const bool finite = kernel.largest(x + i * ld, k, &largest);
    const numerics::RowScale row = numerics::row_scale(largest, finite);
    scale[i] = row.scale;
    std::int8_t* out = x8 + i * ld_out;
    if (row.reciprocal == 0.0f) {
      std::fill(out, out + k, std::int8_t{0});
      sum[i] = 0;
    } else {
      sum[i] = kernel.quantize(x + i * ld, k, row.reciprocal, out);
    }
  }
}

}  // namespace liquidgemm
