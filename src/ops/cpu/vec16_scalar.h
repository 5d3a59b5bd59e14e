// Sixteen floats as a plain array: what kernels_impl.h is written over, without any instruction set
// beyond the architecture's own. Slow on x86 without FMA (fmaf is a library call there), exact
// everywhere, and the oracle of the vector versions.
//
// kernels_scalar.cc alone includes this file; vec16_avx2.h and vec16_avx512.h offer the same names.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/half.h"
#include "gemm/numerics.h"
#include "ops/cpu/ops.h"

#define LIQUIDGEMM_INLINE [[maybe_unused]] __attribute__((always_inline)) inline

namespace liquidgemm {
namespace {

struct Vec {
  float lane[16];
};
struct Bits {  // non-negative integers
  std::int32_t lane[16];
};

// How many vectors of dimensions one pass of the value sum holds for `queries` queries at once, and
// how many of tokens one pass of the scores.
constexpr int value_vectors(int) { return 1; }
constexpr int score_vectors(int) { return 1; }

LIQUIDGEMM_INLINE Vec set1(float x) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = x;
  return r;
}
LIQUIDGEMM_INLINE Vec zero() { return set1(0.0f); }
LIQUIDGEMM_INLINE Vec load(const float* p) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = p[i];
  return r;
}
LIQUIDGEMM_INLINE void store(float* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.lane[i];
}
// The first n lanes; the others read as 0 and are not written.
LIQUIDGEMM_INLINE Vec load_partial(const float* p, std::int64_t n) {
  Vec r = zero();
  for (int i = 0; i < n; ++i) r.lane[i] = p[i];
  return r;
}
LIQUIDGEMM_INLINE void store_partial(float* p, const Vec& a, std::int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = a.lane[i];
}
// Lanes 0 .. n-1 of a, the others of b.
LIQUIDGEMM_INLINE Vec first_lanes(const Vec& a, const Vec& b, std::int64_t n) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = i < n ? a.lane[i] : b.lane[i];
  return r;
}

LIQUIDGEMM_INLINE Vec add(const Vec& a, const Vec& b) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] + b.lane[i];
  return r;
}
LIQUIDGEMM_INLINE Vec sub(const Vec& a, const Vec& b) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] - b.lane[i];
  return r;
}
LIQUIDGEMM_INLINE Vec mul(const Vec& a, const Vec& b) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] * b.lane[i];
  return r;
}
LIQUIDGEMM_INLINE Vec div(const Vec& a, const Vec& b) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] / b.lane[i];
  return r;
}
LIQUIDGEMM_INLINE Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
  return r;
}
LIQUIDGEMM_INLINE Vec round(const Vec& a) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = rintf(a.lane[i]);
  return r;
}
// a > b ? a : b, so a NaN in a is passed over and one in b stays.
LIQUIDGEMM_INLINE Vec greater(const Vec& a, const Vec& b) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  return r;
}
// x[i] = exp_contract(x[i]), in every lane.
template <int kCount>
LIQUIDGEMM_INLINE void exp(Vec (&x)[kCount]) {
  for (Vec& a : x) {
    for (float& lane : a.lane) lane = numerics::exp_contract(lane);
  }
}
// How many vectors a loop had best hand to exp at once.
constexpr int kExpTogether = 1;
LIQUIDGEMM_INLINE Vec negate(const Vec& a) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = -a.lane[i];
  return r;
}

// The sum of all lanes and the largest of them: lane i joins lane i + half, for half = 8, 4, 2, 1.
LIQUIDGEMM_INLINE float folded_sum(Vec a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.lane[i] = a.lane[i] + a.lane[i + half];
  }
  return a.lane[0];
}
LIQUIDGEMM_INLINE float folded_max(Vec a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
    }
  }
  return a.lane[0];
}

// |a| as the integer that its bits are: in the order of the magnitudes, infinity and NaN on top.
LIQUIDGEMM_INLINE Bits magnitude(const Vec& a) {
  Bits r;
  for (int i = 0; i < 16; ++i) r.lane[i] = std::bit_cast<std::int32_t>(a.lane[i]) & 0x7FFFFFFF;
  return r;
}
LIQUIDGEMM_INLINE Bits larger(const Bits& a, const Bits& b) {
  Bits r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  return r;
}
LIQUIDGEMM_INLINE std::int32_t largest(const Bits& a) {
  std::int32_t r = a.lane[0];
  for (int i = 1; i < 16; ++i) r = a.lane[i] > r ? a.lane[i] : r;
  return r;
}

LIQUIDGEMM_INLINE Vec load_f16(const std::uint16_t* p) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = f16_to_float(p[i]);
  return r;
}
LIQUIDGEMM_INLINE void store_f16(std::uint16_t* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_f16(a.lane[i]);
}
LIQUIDGEMM_INLINE Vec load_bf16(const Bf16* p) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = bf16_to_float(static_cast<std::uint16_t>(p[i]));
  return r;
}
LIQUIDGEMM_INLINE void store_bf16(Bf16* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<Bf16>(float_to_bf16(a.lane[i]));
}
LIQUIDGEMM_INLINE Vec load_int8(const std::int8_t* p) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = static_cast<float>(p[i]);
  return r;
}
// numerics::quantize_value of every lane.
LIQUIDGEMM_INLINE void store_quantized(std::int8_t* p, const Vec& a, float reciprocal) {
  for (int i = 0; i < 16; ++i) p[i] = numerics::quantize_value(a.lane[i], reciprocal);
}

}  // namespace
}  // namespace liquidgemm
