// What the warps of a team tell each other in decode attention (decode_rows.cuh): each about its
// own page of the round, to all of them. A warp alone keeps it in registers.
#pragma once

#include <cstdint>

#include "gemm/cuda/ptx/barrier.h"
#include "ops/cuda/attention_tile.cuh"

namespace liquidgemm::cuda {

// kColumns = 1: rows are the query heads at even places of a tile only, one a lane, where there are
// at most four.
template <KvElement kElement, int kTiles, int kColumns, int kTeam>
class DecodeExchange {
  static constexpr bool kZeros = !kv_is_float(kElement);
  static constexpr int kRows = kTiles * kColumns;

  struct alignas(16) Shared {
    uint4 probabilities[kTeam][2 * kTiles][32];       // k steps 2 v, 2 v + 1 of a lane
    float sums[kTeam][kRows * (kZeros ? 2 : 1)][32];  // what it adds to l, then to z
    float largest[kTeam][kRows][4];                   // score of each row
    std::uint32_t classes[kTeam];                     // of the values' scales
  };

 public:
  static constexpr int kSharedBytes = static_cast<int>(sizeof(Shared));  // of a team

  __device__ __forceinline__ DecodeExchange(std::uint8_t* shared, int team, int member, int lane)
      : shared_(reinterpret_cast<Shared*>(shared)[team]),
        team_(team),
        member_(member),
        lane_(lane) {}

  // What was told before is there for all.
  __device__ __forceinline__ void barrier() const { ptx::named_barrier(1 + team_, 32 * kTeam); }

  __device__ __forceinline__ void tell_largest(const PerRow<kTiles>& largest, std::uint32_t bits) {
    if (lane_ < 4) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          shared_.largest[member_][n * kColumns + c][lane_] = largest[n][c];
        }
      }
    }
    if (lane_ == 0) shared_.classes[member_] = exponent_class(bits);
  }
  // Of page j of the round.
  __device__ __forceinline__ float largest(int j, int n, int c) const {
    return shared_.largest[j][n * kColumns + c][lane_ % 4];
  }
  __device__ __forceinline__ std::uint32_t class_of(int j) const { return shared_.classes[j]; }

  __device__ __forceinline__ void tell_weights(const PageProbabilities<kTiles>& probabilities,
                                               const PerRow<kTiles>& p_sum,
                                               const PerRow<kTiles>& z_sum) {
#pragma unroll
    for (int v = 0; v < 2 * kTiles; ++v) {
      constexpr int kSteps = kPageTiles / 2;
      const std::uint32_t(&even)[2] = probabilities[v % kSteps * 2][v / kSteps];
      const std::uint32_t(&odd)[2] = probabilities[v % kSteps * 2 + 1][v / kSteps];
      shared_.probabilities[member_][v][lane_] = make_uint4(even[0], even[1], odd[0], odd[1]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int i = n * kColumns + c;
        shared_.sums[member_][i][lane_] = p_sum[n][c];
        if constexpr (kZeros) shared_.sums[member_][kRows + i][lane_] = z_sum[n][c];
      }
    }
  }
  __device__ __forceinline__ float p_sum(int j, int n, int c) const {
    return shared_.sums[j][n * kColumns + c][lane_];
  }
  __device__ __forceinline__ float z_sum(int j, int n, int c) const {
    return kZeros ? shared_.sums[j][kRows + n * kColumns + c][lane_] : 0.0f;
  }
  __device__ __forceinline__ void read_probabilities(
      int j, PageProbabilities<kTiles>& probabilities) const {
#pragma unroll
    for (int v = 0; v < 2 * kTiles; ++v) {
      const uint4 four = shared_.probabilities[j][v][lane_];
      constexpr int kSteps = kPageTiles / 2;
      std::uint32_t(&even)[2] = probabilities[v % kSteps * 2][v / kSteps];
      std::uint32_t(&odd)[2] = probabilities[v % kSteps * 2 + 1][v / kSteps];
      even[0] = four.x;
      even[1] = four.y;
      odd[0] = four.z;
      odd[1] = four.w;
    }
  }

 private:
  Shared& shared_;
  const int team_, member_, lane_;
};

template <KvElement kElement, int kTiles, int kColumns>
class DecodeExchange<kElement, kTiles, kColumns, 1> {
 public:
  static constexpr int kSharedBytes = 0;

  __device__ __forceinline__ DecodeExchange(std::uint8_t*, int, int, int) {}

  __device__ __forceinline__ void barrier() const {}

  __device__ __forceinline__ void tell_largest(const PerRow<kTiles>& largest, std::uint32_t bits) {
    copy(largest, largest_);
    class_ = exponent_class(bits);
  }
  __device__ __forceinline__ float largest(int, int n, int c) const { return largest_[n][c]; }
  __device__ __forceinline__ std::uint32_t class_of(int) const { return class_; }

  __device__ __forceinline__ void tell_weights(const PageProbabilities<kTiles>& probabilities,
                                               const PerRow<kTiles>& p_sum,
                                               const PerRow<kTiles>& z_sum) {
    copy(p_sum, p_sum_);
    copy(z_sum, z_sum_);
    copy(probabilities, probabilities_);
  }
  __device__ __forceinline__ float p_sum(int, int n, int c) const { return p_sum_[n][c]; }
  __device__ __forceinline__ float z_sum(int, int n, int c) const { return z_sum_[n][c]; }
  __device__ __forceinline__ void read_probabilities(
      int, PageProbabilities<kTiles>& probabilities) const {
    copy(probabilities_, probabilities);
  }

 private:
  static __device__ __forceinline__ void copy(const PerRow<kTiles>& from, PerRow<kTiles>& to) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) to[n][c] = from[n][c];
    }
  }
  static __device__ __forceinline__ void copy(const PageProbabilities<kTiles>& from,
                                              PageProbabilities<kTiles>& to) {
#pragma unroll
    for (int u = 0; u < kPageTiles; ++u) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        to[u][n][0] = from[u][n][0];
        to[u][n][1] = from[u][n][1];
      }
    }
  }

  PerRow<kTiles> largest_, p_sum_, z_sum_;
  PageProbabilities<kTiles> probabilities_;
  std::uint32_t class_;
};

}  // namespace liquidgemm::cuda
