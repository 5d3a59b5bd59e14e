// The kernels for the architecture's own instruction set.
#include "ops/cpu/tables.h"
#include "ops/cpu/vec16_scalar.h"
// After the vector it is written over.
#include "ops/cpu/kernels_impl.h"

namespace liquidgemm {

constinit const CpuOps kScalarOps = LIQUIDGEMM_CPU_OPS_TABLE;

}  // namespace liquidgemm
