// Turns the return code of a CUDA runtime call into a Status that names the call.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// Ok, or a Status with `call` (what was called) and CUDA's own words for the code. The runtime
// remembers a failure until it is asked: it is cleared here, so that a later launch_status() does
// not report it again.
inline Status cuda_status(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return ok_status();
  static_cast<void>(cudaGetLastError());
  std::string message = std::string("CUDA: ") + call + ": " + cudaGetErrorString(code) + " (" +
                        cudaGetErrorName(code) + ")";
  switch (code) {
    case cudaErrorMemoryAllocation: return resource_exhausted(std::move(message));
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice: return unsupported(std::move(message));
    default: return internal_error(std::move(message));
  }
}

// The Status of the kernel launch just made. Reading it also clears it.
inline Status launch_status(const char* kernel) { return cuda_status(cudaGetLastError(), kernel); }

}  // namespace liquidgemm::cuda

// LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaSetDevice(0));
#define LIQUIDGEMM_RETURN_IF_CUDA_ERROR(call) \
  LIQUIDGEMM_RETURN_IF_ERROR(::liquidgemm::cuda::cuda_status((call), #call))
