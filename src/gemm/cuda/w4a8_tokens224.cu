// W4A8 kernels for tiles of 224 tokens; compiled once for each group size
// (src/gemm/CMakeLists.txt).
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::cuda {

template <>
std::span<const KernelEntry> kernels<224, LIQUIDGEMM_GROUP_SIZE>() {
  static const KernelEntry entries[] = {
      kernel_entry<224, 1, 2, 1, LIQUIDGEMM_GROUP_SIZE>(),
      kernel_entry<224, 1, 1, 1, LIQUIDGEMM_GROUP_SIZE>(),
  };
  return entries;
}

}  // namespace liquidgemm::cuda
