// Builds the table of one w4a8_tokens*.cu file.
#pragma once

#include "gemm/cuda/kernel_table.h"
#include "gemm/cuda/w4a8_kernel.cuh"

namespace liquidgemm::cuda {

template <int kTokens, int kBlocks, int kGroups, int kDepth, int kGroupSize>
KernelEntry kernel_entry() {
  using Config = W4A8Config<kTokens, kBlocks, kGroups, kDepth, kGroupSize>;
  return {kTokens, kBlocks, kGroups, kDepth, kGroupSize, Config::kThreads, w4a8_kernel<Config>};
}

}  // namespace liquidgemm::cuda

// One tile shape for every group size.
#define LIQUIDGEMM_KERNELS(tokens, blocks, groups, depth) \
  kernel_entry<tokens, blocks, groups, depth, 32>(),      \
      kernel_entry<tokens, blocks, groups, depth, 64>(),  \
      kernel_entry<tokens, blocks, groups, depth, 128>()
