// The numeric contract as code: the one place where each floating-point sequence of the product
// is written down. Every backend either includes these functions or reproduces them operation by
// operation; docs/numerics.md explains them.
//
// Each line is one IEEE binary32 operation, rounded to nearest even. The files that include this
// header are compiled with -ffp-contract=off (host) or -fmad=false (device), without fast-math.
#pragma once

#include <cmath>
#include <cstdint>

// On the host always inlined with internal linkage: the same header is compiled for several
// instruction sets, and the linker must never pick one's copy for another.
#if defined(__CUDACC__)
#define LIQUIDGEMM_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LIQUIDGEMM_HOST_DEVICE [[maybe_unused]] __attribute__((always_inline)) static inline
#endif

namespace liquidgemm::numerics {

// INT32 cannot overflow up to this K: 255 * 127 * 66311 < 2^31.
inline constexpr std::int64_t kMaxK = 66311;

// A token whose largest magnitude is below this is quantised as all zeros.
inline constexpr float kTinyRow = 0x1p-100f;

// ---- Activations: one row (token) to INT8 --------------------------------------------------

struct RowScale {
  float scale;       // s_x, what one INT8 unit is worth; NaN when the row is not finite
  float reciprocal;  // r, what a value is multiplied with; 0 when the row becomes zeros
};

// m = max |x| over the row. A row that holds a NaN or an infinity passes `finite` = false.
LIQUIDGEMM_HOST_DEVICE RowScale row_scale(float m, bool finite) {
  if (!finite) return {__builtin_nanf(""), 0.0f};
  if (m < kTinyRow) return {1.0f, 0.0f};
  return {m / 127.0f, 127.0f / m};
}

// clamp(rint(x * r), -127, 127). With r = 0 the caller writes 0 without calling this.
LIQUIDGEMM_HOST_DEVICE std::int8_t quantize_value(float x, float reciprocal) {
  float scaled = rintf(x * reciprocal);
  if (scaled > 127.0f) scaled = 127.0f;
  if (scaled < -127.0f) scaled = -127.0f;
  return static_cast<std::int8_t>(scaled);
}

// ---- KV in INT4: one row (token and head) to codes -8 .. 7 ------------------------------------
//
// With low and high the smallest and largest value of the row, head_dim of them:
//
//   s = f16(kv4_step(low, high, finite));   z = f16(kv4_middle(low, s))     rounded to nearest even
//   c = kv4_code(x, s, z)                                            s and z as rounded to f16
//
// and a value reads as z + s * c.

// A row that holds a NaN or an infinity passes `finite` = false.
LIQUIDGEMM_HOST_DEVICE float kv4_step(float low, float high, bool finite) {
  if (!finite) return __builtin_nanf("");
  return (high - low) / 15.0f;
}
LIQUIDGEMM_HOST_DEVICE float kv4_middle(float low, float step) { return low + 8.0f * step; }
// A constant row (step 0) is all zeros; so is a row that is not finite (step NaN).
LIQUIDGEMM_HOST_DEVICE int kv4_code(float x, float step, float middle) {
  if (!(step > 0.0f)) return 0;
  const float code = rintf((x - middle) / step);
  if (!(code > -8.0f)) return -8;
  if (code > 7.0f) return 7;
  return static_cast<int>(code);
}

// ---- Linear layers ---------------------------------------------------------------------------

// y before conversion to the output type. `bias` is added only where the layer has one.
LIQUIDGEMM_HOST_DEVICE float scale_output(std::int32_t accumulator, float row_scale,
                                          float channel_scale) {
  const float t = row_scale * channel_scale;
  return static_cast<float>(accumulator) * t;
}

// What it is added to, below 2^22, is rounded to an integer, which is in the lowest bits of the
// sum.
inline constexpr float kRoundingAddend = 0x1.8p+23f;

// ---- exp, SiLU ---------------------------------------------------------------------------------

// exp(x) for x <= 0 or moderate x, the same polynomial everywhere. x is clamped to [-87, 88];
// NaN stays NaN. n = rint(x / ln 2) and r = x - n ln 2 in two exact-enough steps (Cody-Waite),
// then a degree-6 Taylor polynomial by Horner's rule, then 2^n by the exponent field.
// Relative error below 3e-7 on the whole range.
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e4p-1f;  // 14 bits: n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kExpLow = -87.0f;
inline constexpr float kExpHigh = 88.0f;

// exp(x - n ln 2) of that polynomial.
LIQUIDGEMM_HOST_DEVICE float exp_polynomial(float x, float n) {
  float r = x - n * kLn2High;
  r = r - n * kLn2Low;
  float p = 0x1.6c16c2p-10f;   // 1/720
  p = p * r + 0x1.111112p-7f;  // 1/120
  p = p * r + 0x1.555556p-5f;  // 1/24
  p = p * r + 0x1.555556p-3f;  // 1/6
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  return p * r + 1.0f;
}

LIQUIDGEMM_HOST_DEVICE float exp_contract(float x) {
  if (!(x == x)) return x;
  if (x < kExpLow) x = kExpLow;
  if (x > kExpHigh) x = kExpHigh;
  const float n = rintf(x * kLog2E);
  const float p = exp_polynomial(x, n);
  const std::int32_t exponent = (static_cast<std::int32_t>(n) + 127) << 23;
  return p * __builtin_bit_cast(float, exponent);
}

// 2^x for x <= 0, or NaN, which stays NaN: attention on the GPU, whose scores are in units of ln 2.
// x is clamped from below to -125; n = rint(x), f = x - n (exact), a polynomial of degree 5 (least
// largest relative error with p(0) = 1) by Horner's rule in fmaf, and 2^n by the exponent field.
// Relative error below 2e-7.
inline constexpr float kExp2Low = -125.0f;
inline constexpr float kExp2Factor1 = 0x1.62e42ap-1f;
inline constexpr float kExp2Factor2 = 0x1.ebf9bcp-3f;
inline constexpr float kExp2Factor3 = 0x1.c6b752p-5f;
inline constexpr float kExp2Factor4 = 0x1.3cea88p-7f;
inline constexpr float kExp2Factor5 = 0x1.5bba14p-10f;

LIQUIDGEMM_HOST_DEVICE float exp2_contract(float x) {
  if (x < kExp2Low) x = kExp2Low;
  const float shifted = x + kRoundingAddend;
  const float f = x - (shifted - kRoundingAddend);
  float p = fmaf(kExp2Factor5, f, kExp2Factor4);
  p = fmaf(p, f, kExp2Factor3);
  p = fmaf(p, f, kExp2Factor2);
  p = fmaf(p, f, kExp2Factor1);
  p = fmaf(p, f, 1.0f);
  // The lowest bits of `shifted` are n.
  const std::uint32_t exponent = __builtin_bit_cast(std::uint32_t, shifted) << 23;
  return p * __builtin_bit_cast(float, exponent + 0x3F800000u);
}

// x / (1 + exp(-x))
LIQUIDGEMM_HOST_DEVICE float silu(float x) { return x / (1.0f + exp_contract(-x)); }

// ---- RMSNorm -----------------------------------------------------------------------------------

// The sum of squares of a row uses one tree: lane i holds the sum of x[k]^2 for k mod 1024 == i in
// ascending k, starting from 0; then lanes fold by halving, lane i += lane i + half, for
// half = 512, 256, ..., 1.
inline constexpr int kNormLanes = 1024;

// 1 / sqrt(sum / width + eps), division and square root correctly rounded.
LIQUIDGEMM_HOST_DEVICE float rms_reciprocal(float sum, float width, float eps) {
  return 1.0f / sqrtf(sum / width + eps);
}

// (x * reciprocal) * weight, in this order.
LIQUIDGEMM_HOST_DEVICE float rms_apply(float x, float reciprocal, float weight) {
  return (x * reciprocal) * weight;
}

// ---- Attention ---------------------------------------------------------------------------------

// One query vector of one head against the tokens 0 .. position:
//
//   dot(q, k)   sum = fmaf(q[d], k[d], sum) for ascending d, from 0
//   score       dot * (k's scale, where the cache has one) * (1 / sqrt(head_dim), made on the host)
//
// The context is cut at multiples of kAttentionSplit tokens from position 0. Inside a split:
//
//   m = max score;   p_t = exp_contract(score_t - m)
//   l = sum of p_t, 16 lanes over t mod 16 counted from the split's start, folded by halving
//   o[d] = fmaf(p_t * (v's scale, where there is one), v_t[d], o[d]) for ascending t, from 0
//
// Splits combine in ascending order, starting from the first one's (m, l, o):
//
//   m' = max(M, m);  x = exp_contract(M - m');  y = exp_contract(m - m')
//   L = L * x + l * y;   O[d] = O[d] * x + o[d] * y;   M = m'
//
// and the result is O[d] / L. None of it depends on what else is in the batch.
inline constexpr int kAttentionSplit = 256;

// ---- Float linear layers -----------------------------------------------------------------------

// A float linear layer sums k in blocks of this many: inside a block fmaf in ascending k from 0,
// then the blocks are added in ascending order to a total that starts at 0.
inline constexpr int kFloatBlock = 256;

}  // namespace liquidgemm::numerics
