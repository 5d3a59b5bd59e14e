// W4A8 kernels for tiles of 256 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens256() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(256, 1, 2, 1),
      LIQUIDGEMM_KERNELS(256, 1, 1, 2),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
