// What the Hopper kernels take, said once for every entry point.
#pragma once

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// Ok, or which field of `desc` is refused and what was expected. Looks at no device.
Status check_desc(const CudaGemmDesc& desc);

}  // namespace liquidgemm::cuda
