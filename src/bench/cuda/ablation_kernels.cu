// The kernels that `liquid bench gemm --ablate` measures beside those that serve.
#include "bench/cuda/ablation.h"
#include "gemm/cuda/kernel_entries.cuh"

namespace liquidgemm::bench {
namespace {

using cuda::kernel_entry;
using cuda::Unpack;

constexpr int kGroupSize = kAblationGroupSize;

}  // namespace

std::span<const cuda::KernelEntry> subtract_kernels() {
  static const cuda::KernelEntry entries[] = {
      kernel_entry<16, 1, 4, 1, kGroupSize, Unpack::kSubtract>(),
      kernel_entry<64, 2, 2, 1, kGroupSize, Unpack::kSubtract>(),
      kernel_entry<128, 2, 2, 1, kGroupSize, Unpack::kSubtract>(),
  };
  return entries;
}

std::span<const cuda::KernelEntry> xor_kernels() {
  static const cuda::KernelEntry entries[] = {
      kernel_entry<16, 1, 4, 1, kGroupSize, Unpack::kXor>(),
      kernel_entry<64, 2, 2, 1, kGroupSize, Unpack::kXor>(),
      kernel_entry<128, 2, 2, 1, kGroupSize, Unpack::kXor>(),
  };
  return entries;
}

std::span<const cuda::KernelEntry> one_group_kernels() {
  static const cuda::KernelEntry entries[] = {
      kernel_entry<16, 4, 1, 1, kGroupSize>(),
      kernel_entry<64, 3, 1, 1, kGroupSize>(),
      kernel_entry<128, 2, 1, 1, kGroupSize>(),
  };
  return entries;
}

}  // namespace liquidgemm::bench
