// W4A8 kernels for tiles of 192 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens192() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(192, 1, 2, 1),
      LIQUIDGEMM_KERNELS(192, 1, 1, 2),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
