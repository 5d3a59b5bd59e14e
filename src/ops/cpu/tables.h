// The table of each instruction set, defined in kernels_<isa>.cc.
#pragma once

#include "ops/cpu/ops.h"

namespace liquidgemm {

extern const CpuOps kScalarOps;
#if defined(__x86_64__)
extern const CpuOps kAvx2Ops;
extern const CpuOps kAvx512Ops;
#endif

}  // namespace liquidgemm
