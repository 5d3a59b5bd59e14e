// The kernels of ops.h over the sixteen-lane vector of the including file, which must have included
// one of vec16_*.h before. Compiled once for each instruction set; see kernels_scalar.cc.
//
// Lanes past the end of a row read as 0. Where they are added to a sum, the sum is of squares or of
// exponentials, never -0, so adding 0 changes no bit.
#pragma once

#include "ops/cpu/ops.h"
// Not before the vector: attention is written over it too.
#include "ops/cpu/attention_impl.h"

namespace liquidgemm {
namespace {

// The vectors of lanes kFirst, kFirst + kStep, kFirst + 2 * kStep, ... folded into one, as the tree
// that halves the lanes does; depth first, so that all of it stays in registers. Vectors past the
// end are 0.
template <int kFirst, int kStep>
LIQUIDGEMM_INLINE Vec folded_squares(const float* x, std::int64_t width) {
  if (kFirst * 16 >= width) return zero();
  if constexpr (kStep < numerics::kNormLanes / 16) {
    const Vec low = folded_squares<kFirst, 2 * kStep>(x, width);
    return add(low, folded_squares<kFirst + kStep, 2 * kStep>(x, width));
  } else {
    Vec sum = zero();
    std::int64_t k = kFirst * 16;
    for (; k + 16 <= width; k += numerics::kNormLanes) {
      const Vec a = load(x + k);
      sum = add(sum, mul(a, a));
    }
    if (k < width) {
      const Vec a = load_partial(x + k, width - k);
      sum = add(sum, mul(a, a));
    }
    return sum;
  }
}

float sum_of_squares(const float* x, std::int64_t width) {
  return folded_sum(folded_squares<0, 1>(x, width));
}

void rms_norm(const float* x, const float* weight, float* out, std::int64_t width, float eps) {
  const float reciprocal =
      numerics::rms_reciprocal(sum_of_squares(x, width), static_cast<float>(width), eps);
  const Vec factor = set1(reciprocal);
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) {
    store(out + k, mul(mul(load(x + k), factor), load(weight + k)));
  }
  const std::int64_t rest = width - k;
  if (rest > 0) {
    const Vec y = mul(mul(load_partial(x + k, rest), factor), load_partial(weight + k, rest));
    store_partial(out + k, y, rest);
  }
}

void add_rows(float* x, const float* y, std::int64_t width) {
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) store(x + k, add(load(x + k), load(y + k)));
  const std::int64_t rest = width - k;
  if (rest > 0) {
    store_partial(x + k, add(load_partial(x + k, rest), load_partial(y + k, rest)), rest);
  }
}

template <int kCount>
LIQUIDGEMM_INLINE void silu(Vec (&x)[kCount]) {
  Vec e[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) e[i] = negate(x[i]);
  exp(e);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) x[i] = div(x[i], add(set1(1.0f), e[i]));
}

template <int kCount>
LIQUIDGEMM_INLINE std::int64_t silu_multiply_blocks(const float* gate, const float* up, float* out,
                                                    std::int64_t k, std::int64_t width) {
  for (; k + 16 * kCount <= width; k += 16 * kCount) {
    Vec x[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) x[i] = load(gate + k + i * 16);
    silu(x);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) store(out + k + i * 16, mul(x[i], load(up + k + i * 16)));
  }
  return k;
}

void silu_multiply(const float* gate, const float* up, float* out, std::int64_t width) {
  std::int64_t k = silu_multiply_blocks<kExpTogether>(gate, up, out, 0, width);
  k = silu_multiply_blocks<1>(gate, up, out, k, width);
  const std::int64_t rest = width - k;
  if (rest > 0) {
    Vec x[1] = {load_partial(gate + k, rest)};
    silu(x);
    store_partial(out + k, mul(x[0], load_partial(up + k, rest)), rest);
  }
}

void rope(float* head, const float* cos, const float* sin, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  float* first = head;
  float* second = head + half;
  std::int64_t k = 0;
  for (; k + 16 <= half; k += 16) {
    const Vec a = load(first + k), b = load(second + k), c = load(cos + k), s = load(sin + k);
    store(first + k, sub(mul(a, c), mul(b, s)));
    store(second + k, add(mul(b, c), mul(a, s)));
  }
  for (; k < half; ++k) {
    const float a = first[k], b = second[k];
    first[k] = a * cos[k] - b * sin[k];
    second[k] = b * cos[k] + a * sin[k];
  }
}

LIQUIDGEMM_INLINE void store16(std::uint16_t* p, Vec a) { store_f16(p, a); }
LIQUIDGEMM_INLINE void store16(Bf16* p, Vec a) { store_bf16(p, a); }

template <typename T>
LIQUIDGEMM_INLINE void to_two_bytes(const float* x, T* out, std::int64_t width) {
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) store16(out + k, load(x + k));
  const std::int64_t rest = width - k;
  if (rest > 0) {
    T last[16];
    store16(last, load_partial(x + k, rest));
    for (std::int64_t i = 0; i < rest; ++i) out[k + i] = last[i];
  }
}
void to_f16(const float* x, std::uint16_t* out, std::int64_t width) { to_two_bytes(x, out, width); }
void to_bf16(const float* x, Bf16* out, std::int64_t width) { to_two_bytes(x, out, width); }

float to_int8(const float* x, std::int8_t* out, std::int64_t width) {
  constexpr std::int32_t kInfinityBits = 0x7F800000;
  Bits most = magnitude(zero());
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) most = larger(most, magnitude(load(x + k)));
  if (k < width) most = larger(most, magnitude(load_partial(x + k, width - k)));
  const std::int32_t bits = largest(most);
  const numerics::RowScale row =
      numerics::row_scale(__builtin_bit_cast(float, bits), bits < kInfinityBits);
  if (row.reciprocal == 0.0f) {
    for (k = 0; k < width; ++k) out[k] = 0;
    return row.scale;
  }
  for (k = 0; k + 16 <= width; k += 16) store_quantized(out + k, load(x + k), row.reciprocal);
  const std::int64_t rest = width - k;
  if (rest > 0) {
    std::int8_t last[16];
    store_quantized(last, load_partial(x + k, rest), row.reciprocal);
    for (std::int64_t i = 0; i < rest; ++i) out[k + i] = last[i];
  }
  return row.scale;
}

// The codes of 16 values; a NaN becomes -127 before what takes no NaN.
LIQUIDGEMM_INLINE void store_static(std::int8_t* p, Vec x, Vec reciprocal) {
  store_quantized(p, greater(round(mul(x, reciprocal)), set1(-127.0f)), 1.0f);
}

void to_int8_static(const float* x, const float* reciprocal, std::int8_t* out, std::int64_t width) {
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) store_static(out + k, load(x + k), load(reciprocal + k));
  const std::int64_t rest = width - k;
  if (rest > 0) {
    std::int8_t last[16];
    store_static(last, load_partial(x + k, rest), load_partial(reciprocal + k, rest));
    for (std::int64_t i = 0; i < rest; ++i) out[k + i] = last[i];
  }
}

void exp_minus(const float* x, float shift, float* out, std::int64_t width) {
  const Vec minus = set1(shift);
  for (std::int64_t k = 0; k < width; k += 16) {
    const std::int64_t count = width - k < 16 ? width - k : 16;
    Vec y[1] = {sub(load_partial(x + k, count), minus)};
    exp(y);
    store_partial(out + k, y[0], count);
  }
}

}  // namespace
}  // namespace liquidgemm

// The table's initialiser. Constant, so that no code of this instruction set runs before main.
#define LIQUIDGEMM_CPU_OPS_TABLE                                                        \
  {                                                                                     \
    .sum_of_squares = sum_of_squares, .rms_norm = rms_norm, .add = add_rows,            \
    .silu_multiply = silu_multiply, .rope = rope, .to_f16 = to_f16, .to_bf16 = to_bf16, \
    .to_int8 = to_int8, .to_int8_static = to_int8_static, .exp_minus = exp_minus,       \
    .attention_split = attention_split, .attention_rows = attention_rows,               \
    .attention_combine = attention_combine, .attention_finish = attention_finish,       \
  }
