// Shared memory of the other blocks of a cluster by generic pointers.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// The same object in another block's shared memory. Opaque, so that the compiler makes the address
// where it is used: kept ready for a whole kernel such addresses would not fit the registers.
template <typename T>
__device__ __forceinline__ T* remote(T* object, int block_rank) {
  std::uint64_t address;
  asm volatile("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(object), "r"(block_rank));
  return reinterpret_cast<T*>(address);
}

}  // namespace liquidgemm::cuda::ptx
