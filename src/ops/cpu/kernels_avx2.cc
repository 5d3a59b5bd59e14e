// The kernels for AVX2 with FMA and F16C.
#include "ops/cpu/tables.h"
#include "ops/cpu/vec16_avx2.h"
// After the vector it is written over.
#include "ops/cpu/kernels_impl.h"

namespace liquidgemm {

constinit const CpuOps kAvx2Ops = LIQUIDGEMM_CPU_OPS_TABLE;

}  // namespace liquidgemm
