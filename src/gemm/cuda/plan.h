// What a CudaGemmPlan holds: a kernel with everything about its launch that does not depend on
// pointers. The benchmark makes plans of kernels that do not serve.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "gemm/cuda/kernel_table.h"
#include "gemm/cuda/schedule.h"
#include "gemm/cuda/w4a8_parameters.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::cuda {

struct KernelPlan {
  CudaGemmDesc desc;
  Schedule schedule;
  WorkDivision work;
  W4A8Parameters parameters;  // without pointers
  const KernelEntry* kernel = nullptr;
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;

  // The schedule with the numbers that it left open.
  std::string schedule_text() const;
  std::size_t workspace_bytes() const { return work.flag_bytes + work.partial_bytes; }
  Status launch(const CudaGemmArguments& arguments, CudaStream stream) const;
};

// The serving kernel of the schedule's tile, or null.
const KernelEntry* find_kernel(const Schedule& schedule, int group_size);

// `desc` and `m` as CudaGemmPlan::make accepts them; `kernel` of the schedule's tile, or null.
Status make_plan(const CudaGemmDesc& desc, std::int64_t m, const CudaDevice& device,
                 const Schedule& schedule, const KernelEntry* kernel, KernelPlan& plan);

}  // namespace liquidgemm::cuda
