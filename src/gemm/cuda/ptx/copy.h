// Bulk copies into shared memory that complete on an mbarrier, and their L2 hints.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "gemm/cuda/ptx/cache_policy.h"

namespace liquidgemm::cuda::ptx {

// Four bytes by this thread where `wanted`, without a branch and without waiting for them.
__device__ __forceinline__ void copy_word(std::uint32_t shared, const void* global, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %2, 0;\n"
      "@wanted cp.async.ca.shared.global [%0], [%1], 4;}" ::"r"(shared),
      "l"(global), "r"(static_cast<int>(wanted))
      : "memory");
}
// The same, but zero where nothing `exists` at a valid address.
__device__ __forceinline__ void copy_word_or_zero(std::uint32_t shared, const void* global,
                                                  bool exists, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %2, 0;\n"
      "@wanted cp.async.ca.shared.global [%0], [%1], 4, %3;}" ::"r"(shared),
      "l"(global), "r"(static_cast<int>(wanted)), "r"(exists ? 4 : 0)
      : "memory");
}
// 16 bytes by this thread, likewise.
__device__ __forceinline__ void copy_16_bytes(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
// Until this thread's words have all arrived.
__device__ __forceinline__ void wait_for_words() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// A whole warp calls these with equal arguments; one lane copies. So everything that leads to them
// is uniform and stays in uniform registers, and the assembler sees that one lane alone is elected.

// `bytes` contiguous bytes; addresses and size multiples of 16.
__device__ __forceinline__ void copy_bulk(std::uint32_t shared, const void* global, int bytes,
                                          std::uint32_t barrier, std::uint64_t policy) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;}" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

// One box of a two-dimensional tensor at (column, row); what lies outside reads as zero and still
// counts its bytes.
__device__ __forceinline__ void copy_tensor(std::uint32_t shared, const CUtensorMap* map,
                                            int column, int row, std::uint32_t barrier,
                                            std::uint64_t policy) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;}" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier), "l"(policy)
      : "memory");
}
// The same of a three-dimensional tensor at (column, row, layer).
__device__ __forceinline__ void copy_tensor(std::uint32_t shared, const CUtensorMap* map,
                                            int column, int row, int layer, std::uint32_t barrier,
                                            std::uint64_t policy) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;}" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(layer), "r"(barrier), "l"(policy)
      : "memory");
}
// Fetches a tensor map before its first use.
__device__ __forceinline__ void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The same box to the same place of every block in `block_mask`, each on its own barrier.
__device__ __forceinline__ void copy_tensor_multicast(std::uint32_t shared, const CUtensorMap* map,
                                                      int column, int row, std::uint32_t barrier,
                                                      std::uint16_t block_mask,
                                                      std::uint64_t policy) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "@leads cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5, %6;}" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(block_mask), "l"(policy)
      : "memory");
}

// A box of shared memory to a two-dimensional tensor, by the warp that wants it; what lies outside
// the tensor is not written.
__device__ __forceinline__ void store_tensor(const CUtensorMap* map, int column, int row,
                                             std::uint32_t shared, bool wanted) {
  asm volatile(
      "{.reg .pred leads; elect.sync _|leads, 0xFFFFFFFF;\n"
      "setp.ne.and.b32 leads, %4, 0, leads;\n"
      "@leads cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n"
      "@leads cp.async.bulk.commit_group;}" ::"l"(map),
      "r"(column), "r"(row), "r"(shared), "r"(static_cast<int>(wanted))
      : "memory");
}
// Until the boxes that this thread stored, all of them, have been read from shared memory.
__device__ __forceinline__ void wait_for_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// Lets bulk copies see what this thread wrote to shared memory.
__device__ __forceinline__ void fence_shared_for_bulk_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace liquidgemm::cuda::ptx
