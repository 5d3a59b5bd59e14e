#include "ops/cpu/ops.h"

#include "ops/cpu/tables.h"

namespace liquidgemm {

const CpuOps& cpu_ops(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512Vnni) return kAvx512Ops;
  if (isa == Isa::kAvx2) return kAvx2Ops;
#else
  (void)isa;
#endif
  return kScalarOps;
}

}  // namespace liquidgemm
