// Builds the entries of a table of kernels.
#pragma once

#include "gemm/cuda/kernel_table.h"
#include "gemm/cuda/w4a8_kernel.cuh"

namespace liquidgemm::cuda {

template <int kTokens, int kBlocks, int kGroups, int kDepth, int kGroupSize,
          Unpack kUnpack = Unpack::kUnsigned>
KernelEntry kernel_entry() {
  using Config = W4A8Config<kTokens, kBlocks, kGroups, kDepth, kGroupSize, kUnpack>;
  return {kTokens, kBlocks, kGroups, kDepth, Config::kThreads, w4a8_kernel<Config>};
}

}  // namespace liquidgemm::cuda
