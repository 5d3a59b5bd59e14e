// Memory barriers in shared memory (mbarrier), named barriers, and barriers of a cluster.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
  // Opaque, or the compiler derives it anew, from the block's rank, wherever it is used.
  std::uint32_t opaque;
  asm volatile("mov.b32 %0, %1;" : "=r"(opaque) : "r"(address));
  return opaque;
}

// Barriers are named by their shared address: 8 bytes each, 8-byte aligned. One lane of a whole
// warp initialises (with an address for each lane the assembler would loop over the lanes).
__device__ __forceinline__ void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads mbarrier.init.shared::cta.b64 [%0], %1;}" ::"r"(barrier),
      "r"(arrivals)
      : "memory");
}
// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// One lane of a whole warp arrives and makes the phase wait for so many bytes more.
__device__ __forceinline__ void mbarrier_expect_bytes(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;}" ::"r"(barrier),
      "r"(bytes)
      : "memory");
}
// Arrives where `wanted`. Without a branch: one between two wgmma would serialise them.
__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %1, 0;\n"
      "@wanted mbarrier.arrive.shared::cta.b64 _, [%0];}" ::"r"(barrier),
      "r"(static_cast<int>(wanted))
      : "memory");
}
// The same on a barrier of any block of the cluster (remote_address).
__device__ __forceinline__ void mbarrier_arrive_remote(std::uint32_t remote, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %1, 0;\n"
      "@wanted mbarrier.arrive.shared::cluster.b64 _, [%0];}" ::"r"(remote),
      "r"(static_cast<int>(wanted))
      : "memory");
}
// Until the phase of this parity has completed.
__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
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
// Barrier `id` (1 .. 15) among `threads` threads of the block.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Arrives at it without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// All threads of the cluster that have not exited. Orders nothing but what is already complete:
// whoever passes may overwrite what others have finished reading.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_barrier() {
  cluster_arrive();
  cluster_wait();
}
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ int cluster_index() {
  int index;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(index));
  return index;
}
// Shared memory of another block of the cluster.
__device__ __forceinline__ std::uint32_t remote_address(std::uint32_t address, int block_rank) {
  std::uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(remote)
               : "r"(address), "r"(block_rank));
  return remote;
}
// 16 bytes to another block's shared memory; they count on a barrier of that block.
__device__ __forceinline__ void store_async(std::uint32_t remote, const int (&value)[4],
                                            std::uint32_t remote_barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.s32 "
      "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote),
      "r"(value[0]), "r"(value[1]), "r"(value[2]), "r"(value[3]), "r"(remote_barrier)
      : "memory");
}
// Shared memory by its address.
__device__ __forceinline__ void store_shared(std::uint32_t address, const int (&value)[4]) {
  asm volatile("st.shared.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value[0]),
               "r"(value[1]), "r"(value[2]), "r"(value[3])
               : "memory");
}
__device__ __forceinline__ void store_shared(std::uint32_t address, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}
__device__ __forceinline__ void load_shared(std::uint32_t address, int (&value)[4]) {
  asm volatile("ld.shared.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value[0]), "=r"(value[1]), "=r"(value[2]), "=r"(value[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_shared(std::uint32_t address, int (&value)[2]) {
  asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];"
               : "=r"(value[0]), "=r"(value[1])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_shared(std::uint32_t address, float (&value)[2]) {
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(value[0]), "=f"(value[1])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ float load_shared_float(std::uint32_t address) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}

}  // namespace liquidgemm::cuda::ptx
