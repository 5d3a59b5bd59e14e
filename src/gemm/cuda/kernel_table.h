// The compiled W4A8 kernels. Each w4a8_tokens*.cu file holds those of one tile width.
#pragma once

#include <span>

#include "gemm/cuda/w4a8_parameters.h"

namespace liquidgemm::cuda {

struct KernelEntry {
  int tokens, blocks, groups, depth, group_size;
  int threads;
  void (*kernel)(W4A8Parameters);
};

std::span<const KernelEntry> kernels_tokens8();
std::span<const KernelEntry> kernels_tokens16();
std::span<const KernelEntry> kernels_tokens32();
std::span<const KernelEntry> kernels_tokens64();
std::span<const KernelEntry> kernels_tokens96();
std::span<const KernelEntry> kernels_tokens128();
std::span<const KernelEntry> kernels_tokens192();
std::span<const KernelEntry> kernels_tokens256();

}  // namespace liquidgemm::cuda
