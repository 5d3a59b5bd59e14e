#!/usr/bin/env python3
"""Writes wgmma.h: the operand lists of wgmma are too long to be written by hand.

    python3 generate_wgmma.py > wgmma.h && clang-format -i wgmma.h
"""

TOKENS = (8, 16, 32, 64, 96, 128, 160, 192, 224, 256)
SIGNED_TOKENS = (8, 16, 64, 128)  # of the kernels that are only measured

HEADER = """\
// Warp group matrix multiply-accumulate (sm_90a), written by generate_wgmma.py.
//
// wgmma_u8s8<N>: d[64, N] (+)= a[64, 32] * b[N, 32]^T, INT32. a: unsigned bytes in registers; b:
// signed bytes in shared memory, K-major, through a descriptor. With accumulate = 0 the old d is
// not read. Asynchronous: fence, multiply, commit, wait<pending groups>. wgmma_s8s8<N>: the same
// with signed bytes in a.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// Orders register accesses of this warp group before the wgmma that follow.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most `kPending` of the latest groups are still running.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The descriptor of a K-major operand in shared memory, 128-byte rows with the 128-byte swizzle:
// groups of 8 rows lie 1,024 bytes apart. `address` is the shared address of the first row, a
// multiple of 1,024. Its upper word is a constant: arithmetic on the lower one alone is cheaper.
__device__ __forceinline__ std::uint32_t swizzled_descriptor_low(std::uint32_t address) {
  constexpr std::uint32_t kUnusedLeading = 1 << 16;
  return (address & 0x3FFFF) >> 4 | kUnusedLeading;
}
__device__ __forceinline__ std::uint64_t swizzled_descriptor(std::uint32_t low) {
  constexpr std::uint64_t kStride = 1024 >> 4;
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 30;
  return (kSwizzle128 | kStride) << 32 | low;
}
// What one k32 step, 32 bytes of a row, adds to a descriptor.
inline constexpr std::uint32_t kDescriptorK32 = 32 >> 4;

template <int kTokens>
__device__ __forceinline__ void wgmma_u8s8(int (&d)[kTokens / 2], const std::uint32_t (&a)[4],
                                           std::uint64_t b, int accumulate);
template <int kTokens>
__device__ __forceinline__ void wgmma_s8s8(int (&d)[kTokens / 2], const std::uint32_t (&a)[4],
                                           std::uint64_t b, int accumulate);
"""


def wrapped(items, each, join):
    lines = [", ".join(items[i : i + each]) for i in range(0, len(items), each)]
    return join.join(lines)


def specialisation(tokens, sign="u"):
    registers = tokens // 2
    outputs = wrapped([f"%{i}" for i in range(registers)], 14, ', "\n      "')
    operands = wrapped([f'"+r"(d[{i}])' for i in range(registers)], 6, ",\n        ")
    a = ", ".join(f"%{registers + i}" for i in range(4))
    return f"""
template <>
__device__ __forceinline__ void wgmma_{sign}8s8<{tokens}>(int (&d)[{registers}],
                                               const std::uint32_t (&a)[4], std::uint64_t b,
                                               int accumulate) {{
  asm volatile(
      "{{.reg .pred p; setp.ne.b32 p, %{registers + 5}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{tokens}k32.s32.{sign}8.s8 "
      "{{{outputs}}}, "
      "{{{a}}}, %{registers + 4}, p;}}"
      : {operands}
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}}"""


def from_shared_memory(tokens):
    registers = tokens // 2
    outputs = wrapped([f"%{i}" for i in range(registers)], 14, ', "\n      "')
    operands = wrapped([f'"+r"(d[{i}])' for i in range(registers)], 6, ",\n        ")
    return f"""
// d[64, {tokens}] += a[64, 32] * b[{tokens}, 32]^T, signed bytes, both in shared memory: for the
// benchmark.
__device__ __forceinline__ void wgmma_s8s8_shared_n{tokens}(int (&d)[{registers}], std::uint64_t a,
                                                       std::uint64_t b) {{
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n{tokens}k32.s32.s8.s8 "
      "{{{outputs}}}, "
      "%{registers}, %{registers + 1}, 1;"
      : {operands}
      : "l"(a), "l"(b));
}}"""


print(HEADER)
print("// clang-format off")
for tokens in TOKENS:
    print(specialisation(tokens))
for tokens in SIGNED_TOKENS:
    print(specialisation(tokens, "s"))
print(from_shared_memory(256))
print("""
// clang-format on

}  // namespace liquidgemm::cuda::ptx""")
