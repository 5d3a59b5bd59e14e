// Tensor core products of one warp (mma.sync).
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

// d[16, 8] += a[16, 16] * b[16, 8], f16 in, f32 out. With g = lane / 4, t = lane % 4 a lane holds
//
//   a  rows g, g + 8, g, g + 8 at k 2 t, 2 t + 1 (first two) and 2 t + 8, 2 t + 9 (last two)
//   b  column g at k 2 t, 2 t + 1 and 2 t + 8, 2 t + 9
//   d  row g at columns 2 t, 2 t + 1, then row g + 8
__device__ __forceinline__ void mma_f16(float (&d)[4], const std::uint32_t (&a)[4],
                                        const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace liquidgemm::cuda::ptx
