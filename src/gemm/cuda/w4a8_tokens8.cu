// W4A8 kernels for tiles of 8 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens8() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(8, 1, 4, 1),
      LIQUIDGEMM_KERNELS(8, 1, 3, 1),
      LIQUIDGEMM_KERNELS(8, 1, 2, 2),
      LIQUIDGEMM_KERNELS(8, 1, 1, 4),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
