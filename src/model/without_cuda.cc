// The GPU's backend in a build without the CUDA toolkit.
#include "model/cuda_backend.h"

namespace liquidgemm {

Status cuda_usable(int) {
  return unsupported("CUDA: this build has none; build it where the CUDA toolkit is installed");
}

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions&) {
  return cuda_usable();
}

}  // namespace liquidgemm
