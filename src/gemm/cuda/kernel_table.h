// The compiled W4A8 kernels. Each w4a8_tokens*.cu file holds those of one tile width.
#pragma once

#include <span>

#include "gemm/cuda/w4a8_parameters.h"

namespace liquidgemm::cuda {

struct KernelEntry {
  int tokens, blocks, groups, depth;
  int threads;
  void (*kernel)(W4A8Parameters);
};

// The kernels of one tile width and group size, or of INT8 weights.
template <int kTokens, int kGroupSize>
std::span<const KernelEntry> kernels();

#define LIQUIDGEMM_DECLARE_KERNELS(tokens)                      \
  template <>                                                   \
  std::span<const KernelEntry> kernels<tokens, kInt8Weights>(); \
  template <>                                                   \
  std::span<const KernelEntry> kernels<tokens, 32>();           \
  template <>                                                   \
  std::span<const KernelEntry> kernels<tokens, 64>();           \
  template <>                                                   \
  std::span<const KernelEntry> kernels<tokens, 128>();
LIQUIDGEMM_DECLARE_KERNELS(8)
LIQUIDGEMM_DECLARE_KERNELS(16)
LIQUIDGEMM_DECLARE_KERNELS(32)
LIQUIDGEMM_DECLARE_KERNELS(64)
LIQUIDGEMM_DECLARE_KERNELS(96)
LIQUIDGEMM_DECLARE_KERNELS(128)
LIQUIDGEMM_DECLARE_KERNELS(160)
LIQUIDGEMM_DECLARE_KERNELS(192)
LIQUIDGEMM_DECLARE_KERNELS(224)
LIQUIDGEMM_DECLARE_KERNELS(256)
#undef LIQUIDGEMM_DECLARE_KERNELS

}  // namespace liquidgemm::cuda
