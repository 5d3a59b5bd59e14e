// A page as prefill attention keeps it in shared memory: unpacked into fragments of the tensor
// cores, once for all warps of a block.
//
//   shared memory   fragments | fragments | raw page | raw page | results of the splits
//                   before, of each warp | two mbarriers
//   fragments       K [tile of 16 tokens][k step][lane] 16 bytes
//                   V [k step][tile of dimensions][lane] 16 bytes
//                   parameters K [64] | V [64]
#pragma once

#include <cstdint>

#include "ops/cuda/attention_tile.cuh"
#include "ops/cuda/kv_fragments.cuh"

namespace liquidgemm::cuda::prefill {

inline constexpr int kWarps = 8;
inline constexpr int kRowTiles = 2;  // of eight rows, a warp
inline constexpr int kWarpRows = 8 * kRowTiles;
inline constexpr int kBlockRows = kWarps * kWarpRows;
inline constexpr int kFragmentBytes = 32 * 16;  // one A operand of a warp
static_assert(kWarps >= 2 * kPageTiles && kBlockRows >= kMaxAttentionGroup);

template <KvElement kElement, int kWidth>
struct SharedLayout {
  static constexpr int kSteps = kWidth / 16;  // of a dot product; as many tiles of dimensions
  static constexpr int kValues = kPageTiles * kSteps * kFragmentBytes;
  static constexpr int kKeyParameters = 2 * kValues;
  static constexpr int kValueParameters =
      kKeyParameters + kKvPageTokens * kv_parameter_bytes(kElement);
  static constexpr int kFragments = kValueParameters + kKvPageTokens * kv_parameter_bytes(kElement);

  static constexpr int kRaw = 2 * kFragments;
  static constexpr int kRawBytes = kv_head_page_bytes(kElement, kWidth);
  static constexpr int kResults = kRaw + 2 * kRawBytes;
  static constexpr int kResultBytes = 4 * kRowTiles * (kSteps + 1) * 32 * 4;  // of a warp
  static constexpr int kBarriers = kResults + kWarps * kResultBytes;
  static constexpr int kBytes = kBarriers + 16;
  static_assert(kBytes <= 232448, "more than a block may have on this architecture");
};

// Of two elements of f16 or bf16.
template <KvElement kElement>
__device__ __forceinline__ bool has_not_finite(std::uint32_t pair) {
  constexpr std::uint32_t kExponent = kElement == KvElement::kBf16 ? 0x7F80u : 0x7C00u;
  return (pair & kExponent) == kExponent || (pair & kExponent << 16) == kExponent << 16;
}

__device__ __forceinline__ void store_fragment(std::uint8_t* fragments, int index, int lane,
                                               const std::uint32_t (&a)[4]) {
  *reinterpret_cast<uint4*>(fragments + index * kFragmentBytes + lane * 16) =
      make_uint4(a[0], a[1], a[2], a[3]);
}

// This warp's part of a raw page, of which the first `end` tokens are known: the first four warps
// have the k steps of V, the next four the tiles of K. Returns whether a value is not finite.
template <KvElement kElement, int kWidth>
__device__ __forceinline__ bool unpack(const std::uint8_t* raw, std::uint8_t* fragments, int warp,
                                       int lane, int end) {
  using Layout = SharedLayout<kElement, kWidth>;
  const int g = lane / 4;
  const int t = lane % 4;
  bool not_finite = false;
  if (warp < kPageTiles) {
    using Chunk = ValueChunk<kElement, kWidth>;
    const std::uint8_t* rows = raw + value_offset(kElement, kWidth) + warp * 16 * Chunk::kRowBytes;
#pragma unroll
    for (int c = 0; c < Chunk::kChunks; ++c) {
      Chunk chunk;
      chunk.load(rows + Chunk::offset(g, t, 0, c), rows + Chunk::offset(g, t, 1, c));
      if constexpr (kv_is_float(kElement)) {
        if (end < kKvPageTokens) chunk.clear_from(end, 16 * warp + 2 * t);
#pragma unroll
        for (const auto& words : chunk.words) {
#pragma unroll
          for (const std::uint32_t word : words) not_finite |= has_not_finite<kElement>(word);
        }
      }
#pragma unroll
      for (int j = 0; j < Chunk::kTiles; ++j) {
        std::uint32_t a[4];
        chunk.fragment(j, a);
        store_fragment(fragments + Layout::kValues, warp * Layout::kSteps + c * Chunk::kTiles + j,
                       lane, a);
      }
    }
  } else if (warp < 2 * kPageTiles) {
    using Chunk = KeyChunk<kElement, kWidth>;
    const int tile = warp - kPageTiles;
#pragma unroll
    for (int c = 0; c < Chunk::kChunks; ++c) {
      Chunk chunk;
      chunk.load(raw + tile * 16 * Chunk::kRowBytes + Chunk::offset(g, t, c));
#pragma unroll
      for (int s = 0; s < Chunk::kSteps; ++s) {
        std::uint32_t a[4];
        chunk.fragment(s, a);
        store_fragment(fragments, tile * Layout::kSteps + c * Chunk::kSteps + s, lane, a);
      }
    }
  }
  if constexpr (kv_has_scales(kElement)) {
    const int token = warp % 2 * 32 + lane;
    if (warp < 4) {
      const int from = warp < 2 ? key_parameter_offset(kElement, kWidth, token)
                                : value_parameter_offset(kElement, kWidth, token);
      const int to = (warp < 2 ? Layout::kKeyParameters : Layout::kValueParameters) + token * 4;
      *reinterpret_cast<std::uint32_t*>(fragments + to) =
          *reinterpret_cast<const std::uint32_t*>(raw + from);
    }
  }
  return not_finite;
}

}  // namespace liquidgemm::cuda::prefill
