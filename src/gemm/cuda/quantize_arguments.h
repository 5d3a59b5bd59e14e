// What the kernels that write INT8 rows share: their arguments, and what they ask of the caller's.
#pragma once

#include <cstdint>
#include <type_traits>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

struct QuantizeKernelArguments {
  const std::uint8_t* x;
  std::int64_t x_row_bytes;
  std::int8_t* x8;
  std::int64_t ld_x8;
  float* scale;
  std::int32_t* sum;
  std::int64_t k;
};
QuantizeKernelArguments kernel_arguments(const CudaQuantizeArguments& arguments);

bool aligned(const void* pointer, std::uintptr_t bytes);
bool known(CudaFloat type);

Status check_rows(const char* call, const char* name, const void* rows, std::int64_t ld,
                  std::int64_t k, int bytes, int alignment);
// All of `arguments` but x itself.
Status check_outputs(const char* call, const CudaQuantizeArguments& arguments, std::int64_t max_k);
Status check_x(const char* call, const CudaQuantizeArguments& arguments);

// Calls `body` with `type` as a constant.
template <typename Body>
Status with_type(CudaFloat type, const Body& body) {
  switch (type) {
    case CudaFloat::kFloat16: return body(std::integral_constant<CudaFloat, CudaFloat::kFloat16>{});
    case CudaFloat::kBFloat16:
      return body(std::integral_constant<CudaFloat, CudaFloat::kBFloat16>{});
    case CudaFloat::kFloat32: break;
  }
  return body(std::integral_constant<CudaFloat, CudaFloat::kFloat32>{});
}

}  // namespace liquidgemm::cuda
