// The kernels for AVX-512 (F, BW, DQ, VL).
#include "ops/cpu/tables.h"
#include "ops/cpu/vec16_avx512.h"
// After the vector it is written over.
#include "ops/cpu/kernels_impl.h"

namespace liquidgemm {

constinit const CpuOps kAvx512Ops = LIQUIDGEMM_CPU_OPS_TABLE;

}  // namespace liquidgemm
