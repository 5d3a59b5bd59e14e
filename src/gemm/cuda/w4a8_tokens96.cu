// W4A8 kernels for tiles of 96 tokens.
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

std::span<const KernelEntry> kernels_tokens96() {
  static const KernelEntry entries[] = {
      LIQUIDGEMM_KERNELS(96, 2, 2, 1),
      LIQUIDGEMM_KERNELS(96, 1, 2, 1),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
