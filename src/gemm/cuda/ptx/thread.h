// Registers of a warp group, dependent launches, and small register shuffles.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

template <int kRegisters>
__device__ __forceinline__ void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Programmatic dependent launch. wait: until the kernels before have ended and their writes are
// visible; nothing to wait for in an ordinary launch. launch_dependents: the next may start.
__device__ __forceinline__ void wait_for_previous_kernel() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
__device__ __forceinline__ void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;");
}

// Transposes an 8x8 matrix of 16-bit elements held by a warp: lane l has row l / 4, columns
// 2 (l % 4) and + 1, before and after.
__device__ __forceinline__ std::uint32_t transpose_8x8(std::uint32_t pair) {
  std::uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(pair));
  return transposed;
}

// Stores 8x8 matrices of 16-bit elements, held as for transpose_8x8, transposed: columns become the
// rows of 16 bytes whose addresses lanes 0 .. 7 give for the first matrix, 8 .. 15 for the second.
__device__ __forceinline__ void store_transposed(std::uint32_t row,
                                                 const std::uint32_t (&matrices)[1]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(row),
               "r"(matrices[0])
               : "memory");
}
__device__ __forceinline__ void store_transposed(std::uint32_t row,
                                                 const std::uint32_t (&matrices)[2]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row),
               "r"(matrices[0]), "r"(matrices[1])
               : "memory");
}
__device__ __forceinline__ void store_transposed(std::uint32_t row,
                                                 const std::uint32_t (&matrices)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
               : "memory");
}

// The same value, of which the compiler knows nothing more.
__device__ __forceinline__ int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Byte permute: result byte i is byte (selector nibble i) of the eight bytes {b, a}.
template <int kSelector>
__device__ __forceinline__ std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b = 0) {
  std::uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "n"(kSelector));
  return result;
}
// The same with a selector that is not a constant.
__device__ __forceinline__ std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b,
                                                       std::uint32_t selector) {
  std::uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
  return result;
}

// Raises a word to `value` where that is larger, without ever waiting for it: what the compiler
// makes of atomicMax() may wait for the old value, which nobody asked for.
__device__ __forceinline__ void raise_word(std::uint32_t* word, std::uint32_t value, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %2, 0;\n"
      "@wanted red.relaxed.gpu.global.max.u32 [%0], %1;}" ::"l"(word),
      "r"(value), "r"(static_cast<int>(wanted))
      : "memory");
}

// Memory order across blocks: a flag published after, and read before, the data it guards.
__device__ __forceinline__ void store_release(unsigned* flag, unsigned value, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %2, 0;\n"
      "@wanted st.release.gpu.global.u32 [%0], %1;}" ::"l"(flag),
      "r"(value), "r"(static_cast<int>(wanted))
      : "memory");
}
// Until it is set.
__device__ __forceinline__ void wait_for_flag(const unsigned* flag) {
  asm volatile(
      "{.reg .pred unset; .reg .u32 value;\n"
      "again: ld.acquire.gpu.global.u32 value, [%0];\n"
      "setp.eq.u32 unset, value, 0;\n"
      "@unset bra again;}" ::"l"(flag)
      : "memory");
}
// A word where `wanted`, without a branch.
__device__ __forceinline__ void store_word(void* global, int value, bool wanted) {
  asm volatile(
      "{.reg .pred wanted; setp.ne.b32 wanted, %2, 0;\n"
      "@wanted st.global.s32 [%0], %1;}" ::"l"(global),
      "r"(value), "r"(static_cast<int>(wanted))
      : "memory");
}

// Lets bulk copies see what other blocks wrote with ordinary stores.
__device__ __forceinline__ void fence_for_bulk_copies() {
  asm volatile("fence.proxy.async;" ::: "memory");
}

}  // namespace liquidgemm::cuda::ptx
