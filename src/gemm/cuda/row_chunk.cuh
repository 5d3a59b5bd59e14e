// Consecutive elements of a row as a thread loads, keeps and stores them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::cuda {

__host__ __device__ constexpr int element_bytes(CudaFloat type) {
  return type == CudaFloat::kFloat32 ? 4 : 2;
}

template <CudaFloat kType, int kCount>
struct Chunk {
  static constexpr int kWords = kCount * element_bytes(kType) / 4;
  std::uint32_t words[kWords];

  __device__ void load(const void* row, std::int64_t index) {
    const auto* from = static_cast<const std::uint32_t*>(row) + index * kWords;
    if constexpr (kWords == 2) {
      const uint2 two = *reinterpret_cast<const uint2*>(from);
      words[0] = two.x;
      words[1] = two.y;
    } else {
#pragma unroll
      for (int i = 0; i < kWords; i += 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(from + i);
        words[i] = four.x;
        words[i + 1] = four.y;
        words[i + 2] = four.z;
        words[i + 3] = four.w;
      }
    }
  }

  __device__ void store(void* row, std::int64_t index) const {
    auto* to = static_cast<std::uint32_t*>(row) + index * kWords;
    if constexpr (kWords == 2) {
      *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
    } else {
#pragma unroll
      for (int i = 0; i < kWords; i += 4) {
        *reinterpret_cast<uint4*>(to + i) =
            make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
      }
    }
  }

  // Exact.
  __device__ float get(int i) const {
    if constexpr (kType == CudaFloat::kFloat32) return __uint_as_float(words[i]);
    const auto bits = static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16));
    if constexpr (kType == CudaFloat::kFloat16) return __half2float(__ushort_as_half(bits));
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
  }

  // Rounds to nearest even.
  __device__ void set(int i, float value) {
    if constexpr (kType == CudaFloat::kFloat32) {
      words[i] = __float_as_uint(value);
    } else {
      std::uint32_t bits;
      if constexpr (kType == CudaFloat::kFloat16) {
        bits = __half_as_ushort(__float2half_rn(value));
      } else {
        bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
      }
      words[i / 2] = i % 2 == 0 ? (words[i / 2] & 0xFFFF0000u) | bits
                                : (words[i / 2] & 0x0000FFFFu) | bits << 16;
    }
  }
};

}  // namespace liquidgemm::cuda
