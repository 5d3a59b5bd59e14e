// Words of shared memory that copies bring and nobody stores to: volatile keeps these loads behind
// the wait for the copy, and without a clobber of memory the compiler may move others across them.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

__device__ __forceinline__ void load_words(std::uint32_t address, std::uint32_t (&words)[1]) {
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(words[0]) : "r"(address));
}
__device__ __forceinline__ void load_words(std::uint32_t address, std::uint32_t (&words)[2]) {
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(address));
}
__device__ __forceinline__ void load_words(std::uint32_t address, std::uint32_t (&words)[4]) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address));
}

}  // namespace liquidgemm::cuda::ptx
