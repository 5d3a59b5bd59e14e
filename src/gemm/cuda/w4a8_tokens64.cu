// W4A8 kernels for tiles of 64 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens64() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(64, 2, 2, 1),
      LIQUIDGEMM_KERNELS(64, 2, 3, 1),
      LIQUIDGEMM_KERNELS(64, 1, 2, 2),
      LIQUIDGEMM_KERNELS(64, 1, 1, 4),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
