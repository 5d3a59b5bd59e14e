// The shortest list of tokens, by falling value and equal values by rising id, whose weights reach
// a target: shortest_list() of ops/sampling.cc over a row that a cluster holds.
//
// As there, weights are summed by the leading 11, 22 and 32 bits of the value's key, and the chain
// of additions over the bins, from the largest value down, is made in double in the same order. A
// bin's own sum is made in fixed point, by integer additions in any order: exact, and so are the
// CPU's (ops/cuda/sampling.h). Its unit is 2^-23 of the lightest weight that the leading 11 bits
// allow. They hold sign, exponent and two bits of y, so a bin's weights exp(y) differ by less than
//
//   |y| < 32   2^6       32 <= |y| < 64   2^12       64 <= |y| (at most 87)   2^24
//
// and in the last case the unit is 2^6 larger, which leaves 64 bits for any number of tokens.
#pragma once

#include "gemm/numerics.h"
#include "ops/cuda/row_cluster.cuh"

namespace liquidgemm::cuda {

// Every token weighs 1, for top-k.
struct CountWeight {
  static constexpr bool kIsCount = true;
  __device__ float operator()(float) const { return 1.0f; }
};

// exp(y) for y <= 0, nothing for -inf.
struct SoftmaxWeight {
  static constexpr bool kIsCount = false;
  float min_p = 0.0f;  // what weighs less weighs nothing
  __device__ float operator()(float y) const {
    const float e = y >= -FLT_MAX ? numerics::exp_contract(y) : 0.0f;
    return e >= min_p ? e : 0.0f;
  }
};

// What every warp keeps: all larger keys, and the first so many of its tokens that have this one.
struct RowCut {
  std::uint32_t key;
  int ties;
};

// The exponent of one in fixed point, times 2^-23, for the bin of a key's leading 11 bits.
__device__ __forceinline__ int unit_exponent(std::uint32_t bin) {
  if (bin >= 1024) return 0;  // y = 0
  // The largest magnitude of the bin, negative values have the complement of their bits as key;
  // beyond 87 exp_contract no longer falls. log2 e is rounded up, and 1 taken off for exp's error.
  const float magnitude = __uint_as_float(((2047u - bin) & 0x3FFu) << 21 | 0x1FFFFFu);
  const int exponent = static_cast<int>(floorf(fminf(magnitude, 87.0f) * -1.442696f)) - 1;
  return magnitude < 64.0f ? exponent : exponent + 6;
}

__device__ __forceinline__ unsigned long long fixed_weight(float weight, int unit) {
  const std::uint32_t bits = __float_as_uint(weight);
  if (bits == 0) return 0;
  const unsigned long long mantissa = (bits & 0x7FFFFFu) | 0x800000u;
  const int shift = static_cast<int>(bits >> 23) - 127 - unit;
  return shift >= 0 ? mantissa << shift : mantissa >> -shift;
}

// 2^(unit - 23) as a double.
__device__ __forceinline__ double unit_value(int unit) {
  return __longlong_as_double(static_cast<long long>(unit - 23 + 1023) << 52);
}

// How many additions of `weight` to `sum` it takes to reach the target, at most `count`.
__device__ __forceinline__ int additions(double sum, double weight, int count, double target) {
  const auto reached = [&](int n) { return sum + static_cast<double>(n) * weight >= target; };
  if (count > 64) {
    // Where no sum of the chain is rounded the answer needs no chain: where all of them are
    // multiples of 2^lowest below 2^(lowest + 53). A float has 24 bits.
    const auto exponent = [](double x) {
      return static_cast<int>(__double_as_longlong(x) >> 52 & 0x7FF) - 1023;
    };
    int lowest = exponent(weight) - 23;
    if (sum > 0.0) {
      const long long mantissa = __double_as_longlong(sum) & 0xFFFFFFFFFFFFFll;
      const int trailing = mantissa == 0 ? 52 : __ffsll(mantissa) - 1;
      lowest = min(lowest, exponent(sum) - 52 + trailing);
    }
    if (exponent(sum + static_cast<double>(count) * weight) < lowest + 52) {
      int n =
          static_cast<int>(fmin(fmax((target - sum) / weight, 1.0), static_cast<double>(count)));
      while (n > 1 && reached(n - 1)) --n;
      while (n < count && !reached(n)) ++n;
      return n;
    }
  }
  int n = 0;
  while (n < count) {
    sum += weight;
    ++n;
    if (sum >= target) break;
  }
  return n;
}

// Bins are shared out in whole rounds, so that every thread takes part in each.
static_assert((1 << 10) / kClusterBlocks % (kRowThreads / kClusterBlocks) == 0);

template <typename Weight>
class RowCutter {
 public:
  __device__ RowCutter(RowCluster& row, const Weight& weight) : row_(row), weight_(weight) {}

  // Leaves in the row what is in the list. Not yet published.
  __device__ void keep(double target) {
    RowShared& shared = row_.shared();
    if (threadIdx.x == 0) {
      shared.cut_above = 0.0;
      shared.cut_prefix = 0;
    }
    // One copy of the code for all levels: three would not fit the instruction cache.
    int known = 0;
#pragma unroll 1
    for (int level = 0; level < 3; ++level) {
      const int bits = level < 2 ? 11 : 10;
      descend(known, bits, target);
      known += bits;
      if (level > 0) continue;
      // Most tokens are out already; the finer cuts look at the others alone.
      const std::uint32_t coarse = shared.cut_prefix;
      row_.filter([&](bool, float value) { return float_key(value) >> 21 >= coarse; });
    }

    const RowCut cut = share_ties();
    int seen = 0;
    row_.filter([&](bool present, float value) {
      const std::uint32_t key = float_key(value);
      const std::uint32_t ties = __ballot_sync(kAllLanes, present && key == cut.key);
      const int before = seen + __popc(ties & row_.lanes_below());
      seen += __popc(ties);
      return key > cut.key || (key == cut.key && before < cut.ties);
    });
  }

 private:
  // Decides `bits` bits more of the key, of which `known` are known.
  __device__ void descend(int known, int bits, double target) {
    RowShared& shared = row_.shared();
    const int count = 1 << bits;
    for (int b = static_cast<int>(threadIdx.x); b < count; b += kRowThreads) {
      shared.bin_low[b] = 0;
      shared.bin_high[b] = 0;
    }
    __syncthreads();
    const std::uint32_t prefix = shared.cut_prefix;
    const int shift = 32 - known - bits;
    const float* const list = row_.list();
    for (int i = row_.lane(); i < row_.length(); i += 32) {
      const float value = list[i];
      const std::uint32_t key = float_key(value);
      // In two steps: a shift by 32 is not defined.
      if (key >> shift >> bits != prefix) continue;
      add(key >> shift & static_cast<std::uint32_t>(count - 1), key >> 21, value);
    }
    combine(count, known == 0, prefix >> (known > 11 ? known - 11 : 0));
    list_bins(count);
    if (threadIdx.x == 0) choose(bits, target);
    __syncthreads();
  }

  __device__ void add(std::uint32_t bin, std::uint32_t leading, float value) {
    RowShared& shared = row_.shared();
    if constexpr (Weight::kIsCount) {
      atomicAdd(&shared.bin_low[bin], 1u);
    } else {
      const unsigned long long fixed = fixed_weight(weight_(value), unit_exponent(leading));
      const auto low = static_cast<std::uint32_t>(fixed);
      auto high = static_cast<std::uint32_t>(fixed >> 32);
      if (low != 0) {
        const std::uint32_t before = atomicAdd(&shared.bin_low[bin], low);
        if (before > ~low) ++high;
      }
      if (high != 0) atomicAdd(&shared.bin_high[bin], high);
    }
  }

  // Every block sums an eighth of the bins over all blocks and hands the sums to all.
  __device__ void combine(int count, bool bins_lead, std::uint32_t leading) {
    RowShared& shared = row_.shared();
    row_.barrier();
    // Eight neighbouring threads share a bin; each reads from one block, and writes to it.
    const int peer = static_cast<int>(threadIdx.x % kClusterBlocks);
    const std::uint32_t* const lows = row_.remote(shared.bin_low, peer);
    const std::uint32_t* const highs = row_.remote(shared.bin_high, peer);
    double* const sums = row_.remote(shared.bin_sum, peer);
    const int end = (row_.rank() + 1) * (count / kClusterBlocks);
    const int first = row_.rank() * (count / kClusterBlocks);
    constexpr int kStep = kRowThreads / kClusterBlocks;
    for (int bin = first + static_cast<int>(threadIdx.x) / kClusterBlocks; bin < end;
         bin += kStep) {
      unsigned long long sum = lows[bin];
      if constexpr (!Weight::kIsCount) sum += static_cast<unsigned long long>(highs[bin]) << 32;
#pragma unroll
      for (int distance = 1; distance < kClusterBlocks; distance *= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      }
      auto weight = static_cast<double>(sum);
      if constexpr (!Weight::kIsCount) {
        weight *= unit_value(unit_exponent(bins_lead ? static_cast<std::uint32_t>(bin) : leading));
      }
      sums[bin] = weight;
    }
    row_.barrier();
  }

  // Moves the bins that weigh something to the front, from the largest key down.
  __device__ void list_bins(int count) {
    RowShared& shared = row_.shared();
    constexpr int kEach = kBins / kRowThreads;
    const int first = static_cast<int>(threadIdx.x) * kEach;
    double weight[kEach];
    int own = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      weight[i] = first + i < count ? shared.bin_sum[count - 1 - first - i] : 0.0;
      own += weight[i] > 0.0 ? 1 : 0;
    }
    const int through = row_.inclusive_sum(own);
    if (row_.lane() == 31) shared.warp_total[row_.warp()] = through;
    __syncthreads();
    int to = through - own;
    for (int w = 0; w < kRowWarps; ++w) to += w < row_.warp() ? shared.warp_total[w] : 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!(weight[i] > 0.0)) continue;
      shared.bin_sum[to] = weight[i];
      shared.bin_index[to++] = static_cast<std::uint16_t>(count - 1 - first - i);
    }
    if (threadIdx.x == kRowThreads - 1) shared.listed_bins = to;
    __syncthreads();
  }

  // The bin in which the target falls; where rounding leaves it just out of reach, the last one.
  // By one thread.
  __device__ void choose(int bits, double target) {
    RowShared& shared = row_.shared();
    const int listed = shared.listed_bins;
    double sum = shared.cut_above;
    constexpr int kStep = 8;
    int i = 0;
    for (; i + kStep < listed; i += kStep) {
      double next = sum;
#pragma unroll
      for (int j = 0; j < kStep; ++j) next += shared.bin_sum[i + j];
      if (next >= target) break;
      sum = next;
    }
    double above = sum;
    std::uint32_t chosen = (1u << bits) - 1u;
    double weight = 0.0;
    for (; i < listed; ++i) {
      above = sum;
      weight = shared.bin_sum[i];
      chosen = shared.bin_index[i];
      sum += weight;
      if (sum >= target) break;
    }
    const std::uint32_t prefix = shared.cut_prefix << bits | chosen;
    shared.cut_above = above;
    shared.cut_prefix = prefix;
    if (bits == 10) {
      const double each = weight_(key_float(prefix));
      const int ties = static_cast<int>(rint(weight / each));
      shared.cut_ties = ties;
      shared.cut_kept_ties = additions(above, each, ties, target);
    }
  }

  // How many of the tokens at the cut are this warp's to keep.
  __device__ RowCut share_ties() {
    RowShared& shared = row_.shared();
    const std::uint32_t key = shared.cut_prefix;
    const int kept = shared.cut_kept_ties;
    if (kept == shared.cut_ties) return {key, 0x7FFFFFFF};
    int own = 0;
    for (int i = row_.lane(); i < row_.length(); i += 32) {
      own += float_key(row_.list()[i]) == key ? 1 : 0;
    }
    own = __reduce_add_sync(kAllLanes, own);
    if (row_.lane() < kClusterBlocks) {
      *row_.remote(&shared.tie_count[row_.run()], row_.lane()) = own;
    }
    row_.barrier();
    int before = 0;
    for (int r = row_.lane(); r < row_.run(); r += 32) before += shared.tie_count[r];
    return {key, kept - __reduce_add_sync(kAllLanes, before)};
  }

  RowCluster& row_;
  const Weight weight_;
};

}  // namespace liquidgemm::cuda
