// Memory barriers and bulk copies of single lanes: gemm/cuda/ptx has those of a whole warp that
// elects one.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// Arrives and makes the phase wait for so many bytes more.
__device__ __forceinline__ void lane_expect_bytes(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// `bytes` contiguous bytes; addresses and size multiples of 16.
__device__ __forceinline__ void lane_copy_bulk(std::uint32_t shared, const void* global, int bytes,
                                               std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

}  // namespace liquidgemm::cuda::ptx
