// Rows to INT8: the contract's sequence over the vectors of the including file, four of them at a
// time and the last values by one. Only quantize_avx2.cc and quantize_avx512.cc include this, at
// their end: each has a copy of its own (kernels.h says why).
//
// A vector has kLanes values. What the including file gives, beside Floats and Ints:
//
//   load(p), load_first(p, n)   kLanes values; n of them, then zeros
//   magnitude(f)                the bits of |f|
//   zeros(), add(a, b), larger(a, b), largest_of(a), sum_of(a)
//   rounded(f, factor)          f * factor to integers, to nearest even
//   clamped(a)                  to -127 .. 127
//   store_four(p, a, sum)       four vectors as bytes, clamped and added to `sum`
//   store_first(p, a, n)        the first n lanes as bytes
#pragma once

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/unroll.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kStep = 4 * kLanes;

// As integers, magnitudes are ordered like the floats, and infinities and NaN are the largest:
// one maximum answers both questions.
bool largest(const float* x, std::int64_t k, float* result) {
  Ints most[4] = {zeros(), zeros(), zeros(), zeros()};
  std::int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < 4; ++v) {
      const float* at = x + i + v * kLanes;
      _mm_prefetch(reinterpret_cast<const char*>(at) + kPrefetchBytes, _MM_HINT_T0);
      most[v] = larger(most[v], magnitude(load(at)));
    }
  }
  for (; i < k; i += kLanes) most[0] = larger(most[0], magnitude(load_first(x + i, k - i)));
  const std::int32_t bits = largest_of(larger(larger(most[0], most[1]), larger(most[2], most[3])));
  __builtin_memcpy(result, &bits, sizeof bits);
  return bits < 0x7F800000;
}

std::int32_t quantize(const float* x, std::int64_t k, float reciprocal, std::int8_t* x8) {
  Ints sum = zeros();
  std::int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    Ints value[4];
    LIQUIDGEMM_UNROLL
    for (int v = 0; v < 4; ++v) {
      const float* at = x + i + v * kLanes;
      // Most often the next row follows: it comes while this one is computed.
      _mm_prefetch(reinterpret_cast<const char*>(at + k), _MM_HINT_T1);
      value[v] = rounded(load(at), reciprocal);
    }
    store_four(x8 + i, value, sum);
  }
  for (; i < k; i += kLanes) {
    const Ints value = clamped(rounded(load_first(x + i, k - i), reciprocal));
    store_first(x8 + i, value, k - i);
    sum = add(sum, value);
  }
  return sum_of(sum);
}

}  // namespace
}  // namespace liquidgemm::cpu
