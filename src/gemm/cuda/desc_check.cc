#include "gemm/cuda/desc_check.h"

#include <limits>
#include <string>

#include "base/status_macros.h"
#include "gemm/cuda/layout.h"
#include "gemm/numerics.h"

namespace liquidgemm {
namespace cuda {

Status check_desc(const CudaGemmDesc& desc) {
  const auto refused = [](const char* field, std::int64_t value, const std::string& expected) {
    return invalid_argument(std::string("CUDA GEMM: ") + field + " is " + std::to_string(value) +
                            ", expected " + expected);
  };
  constexpr std::int64_t kMaxN = std::numeric_limits<std::int32_t>::max();
  if (desc.n < 8 || desc.n % 8 != 0 || desc.n > kMaxN) {
    return refused("N", desc.n, "a multiple of 8 between 8 and " + std::to_string(kMaxN));
  }
  const bool int8 = desc.group_size == kInt8Weights;
  if (!int8 && (desc.k < 32 || desc.k % 32 != 0)) {
    return refused("K", desc.k, "a multiple of 32, at least 32");
  }
  if (desc.k < 1) return refused("K", desc.k, "1 or more");
  if (desc.k > numerics::kMaxK) {
    return unsupported("CUDA GEMM: K is " + std::to_string(desc.k) +
                       ", but INT32 sums are exact only up to K = " +
                       std::to_string(numerics::kMaxK) + "; leave this layer unquantised");
  }
  if (!int8 && desc.group_size != 32 && desc.group_size != 64 && desc.group_size != 128) {
    return refused("the group size", desc.group_size, "32, 64 or 128, or 0 for INT8 weights");
  }
  if (desc.gated && desc.n % 16 != 0) {
    return refused("N", desc.n, "a multiple of 16 for a gated layer");
  }
  switch (desc.output) {
    case CudaOutput::kFloat16:
    case CudaOutput::kBFloat16:
    case CudaOutput::kFloat32:
    case CudaOutput::kInt32: return ok_status();
  }
  return refused("the output type", static_cast<std::int64_t>(desc.output),
                 "f16, bf16, f32 or i32");
}

}  // namespace cuda

Status can_implement(const CudaGemmDesc& desc, const CudaDevice& device) {
  constexpr std::size_t kSharedBytes = 227 * 1024;
  constexpr int kDriver = 12040;
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::check_desc(desc));
  const std::string name =
      "CUDA GEMM: device " + std::to_string(device.index) + " (" + device.name + ")";
  if (device.compute_major != 9 || device.compute_minor != 0) {
    return unsupported(name + " has compute capability " + std::to_string(device.compute_major) +
                       "." + std::to_string(device.compute_minor) +
                       ", the kernels are for 9.0 (Hopper)");
  }
  if (device.shared_bytes_per_block < kSharedBytes) {
    return unsupported(name + " gives a thread block " +
                       std::to_string(device.shared_bytes_per_block) +
                       " bytes of shared memory, the kernels need " + std::to_string(kSharedBytes));
  }
  if (device.driver_version < kDriver) {
    return unsupported(name + ": the driver is for CUDA " +
                       std::to_string(device.driver_version / 1000) + "." +
                       std::to_string(device.driver_version % 1000 / 10) +
                       ", 12.4 or newer is needed; update the driver");
  }
  return ok_status();
}

std::size_t packed_weight_bytes(const CudaGemmDesc& desc) {
  if (!cuda::check_desc(desc).ok()) return 0;
  const std::int64_t scales = cuda::row_blocks(desc.n) * cuda::kBlockRows;
  return static_cast<std::size_t>(cuda::channel_scale_offset(desc.n, desc.k, desc.group_size) +
                                  scales * static_cast<std::int64_t>(sizeof(float)));
}

}  // namespace liquidgemm
