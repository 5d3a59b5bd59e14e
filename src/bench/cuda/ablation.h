// The ablation: variants of the kernel that read the same packed weights and give the same bits, so
// that their times show what each of its ideas is worth.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/goal_shapes.h"
#include "gemm/cuda/kernel_table.h"
#include "gemm/cuda/plan.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// Groups of kAblationGroupSize; a tile of each width in ablation_tokens() (ablation_kernels.cu).
std::span<const cuda::KernelEntry> subtract_kernels();  // cuda::Unpack::kSubtract
std::span<const cuda::KernelEntry> xor_kernels();       // cuda::Unpack::kXor
// One consumer warp group, which takes all row blocks of the tile.
std::span<const cuda::KernelEntry> one_group_kernels();

struct AblationPlan {
  std::string variant;  // of kAblationVariants
  std::string tile;     // "256 x 16": rows and tokens; equal for what is to be compared
  cuda::KernelPlan plan;
};

// All variants for one layer, `unsigned` before those that are compared with it. The division of
// the work is the planner's, the same for all of them.
Result<std::vector<AblationPlan>> plan_ablation(const CudaGemmDesc& desc, std::int64_t m,
                                                const CudaDevice& device);

}  // namespace liquidgemm::bench
