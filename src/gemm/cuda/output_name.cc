// What an output type is called, with and without CUDA.
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {

std::string_view cuda_output_name(CudaOutput output) {
  switch (output) {
    case CudaOutput::kFloat16: return "f16";
    case CudaOutput::kBFloat16: return "bf16";
    case CudaOutput::kFloat32: return "f32";
    case CudaOutput::kInt32: return "i32";
  }
  return "unknown";
}

}  // namespace liquidgemm
