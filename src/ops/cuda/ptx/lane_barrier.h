// Memory barriers and bulk copies of single lanes: gemm/cuda/ptx has those of a whole warp that
// elects one.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// Whether the phase of this parity has completed. (try_wait, even if told to wait for no time, made
// who polls with it so slow that a kernel around it took 10 % longer.)
__device__ __forceinline__ bool mbarrier_has_completed(std::uint32_t barrier,
                                                       std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{.reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.u32 %0, 1, 0, done;}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

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
