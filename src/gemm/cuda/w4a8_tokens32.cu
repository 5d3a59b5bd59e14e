// W4A8 kernels for tiles of 32 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens32() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(32, 1, 4, 1),
      LIQUIDGEMM_KERNELS(32, 1, 3, 1),
      LIQUIDGEMM_KERNELS(32, 1, 2, 2),
      LIQUIDGEMM_KERNELS(32, 1, 1, 4),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
