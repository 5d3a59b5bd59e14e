// Operands of a warp's tensor core products out of shared memory.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// 16 bytes of this lane; the address a multiple of 16.
__device__ __forceinline__ void load_fragment(std::uint32_t address, std::uint32_t (&words)[4]) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// Four 8x8 matrices of 16-bit elements. Lanes 8 i .. 8 i + 7 give the addresses of the rows of
// matrix i, 16 bytes each; of every matrix lane l gets row l / 4, columns 2 (l % 4) and + 1.
__device__ __forceinline__ void load_matrices(std::uint32_t row, std::uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row)
               : "memory");
}

}  // namespace liquidgemm::cuda::ptx
