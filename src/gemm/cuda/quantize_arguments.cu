#include "gemm/cuda/quantize_arguments.h"

#include <limits>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/row_chunk.cuh"

namespace liquidgemm::cuda {

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

bool known(CudaFloat type) {
  return type == CudaFloat::kFloat16 || type == CudaFloat::kBFloat16 || type == CudaFloat::kFloat32;
}

Status check_rows(const char* call, const char* name, const void* rows, std::int64_t ld,
                  std::int64_t k, int bytes, int alignment) {
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(call) + ": " + name + " " + what);
  };
  if (rows == nullptr) return refused("is null");
  if (ld < k) {
    return refused("has a row stride of " + std::to_string(ld) +
                   ", expected at least K = " + std::to_string(k));
  }
  if (!aligned(rows, alignment) || ld * bytes % alignment != 0) {
    return refused("needs rows that begin at multiples of " + std::to_string(alignment) +
                   " bytes (row stride " + std::to_string(ld) + ")");
  }
  return ok_status();
}

Status check_outputs(const char* call, const CudaQuantizeArguments& arguments, std::int64_t max_k) {
  const auto refused = [&](const std::string& what) {
    return invalid_argument(std::string(call) + ": " + what);
  };
  constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();
  if (arguments.m < 1 || arguments.m > kMaxRows) {
    return refused("M is " + std::to_string(arguments.m) + ", expected 1 to " +
                   std::to_string(kMaxRows));
  }
  if (arguments.k < 8 || arguments.k % 8 != 0 || arguments.k > max_k) {
    return refused("K is " + std::to_string(arguments.k) +
                   ", expected a multiple of 8 between 8 and " + std::to_string(max_k));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(
      check_rows(call, "x8", arguments.x8, arguments.ld_x8, arguments.k, 1, 8));
  if (arguments.scale == nullptr || !aligned(arguments.scale, alignof(float))) {
    return refused("scale is null or not 4-byte aligned");
  }
  if (arguments.sum == nullptr || !aligned(arguments.sum, alignof(std::int32_t))) {
    return refused("sum is null or not 4-byte aligned");
  }
  return ok_status();
}

Status check_x(const char* call, const CudaQuantizeArguments& arguments) {
  if (!known(arguments.type)) {
    return invalid_argument(std::string(call) + ": x has an unknown type");
  }
  return check_rows(call, "x", arguments.x, arguments.ld_x, arguments.k,
                    element_bytes(arguments.type), 16);
}

QuantizeKernelArguments kernel_arguments(const CudaQuantizeArguments& arguments) {
  QuantizeKernelArguments kernel;
  kernel.x = static_cast<const std::uint8_t*>(arguments.x);
  kernel.x_row_bytes = arguments.ld_x * element_bytes(arguments.type);
  kernel.x8 = arguments.x8;
  kernel.ld_x8 = arguments.ld_x8;
  kernel.scale = arguments.scale;
  kernel.sum = arguments.sum;
  kernel.k = arguments.k;
  return kernel;
}

}  // namespace liquidgemm::cuda
