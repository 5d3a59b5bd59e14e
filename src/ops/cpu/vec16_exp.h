// exp over the sixteen-lane vector of the including file, vec16_avx2.h or vec16_avx512.h.
#pragma once

#include "gemm/numerics.h"

namespace liquidgemm {
namespace {

// x[i] = numerics::exp_contract(x[i]). A single one is a chain of some twenty operations that each
// wait for the one before; step by step over several vectors, the steps of one fill the waits of
// the others. greater and less return their second operand when one is NaN, so a NaN passes both
// clamps and then every step.
template <int kCount>
LIQUIDGEMM_INLINE void exp(Vec (&x)[kCount]) {
  Vec n[kCount], p[kCount];
#define LIQUIDGEMM_EVERY _Pragma("GCC unroll 8") for (int i = 0; i < kCount; ++i)
  LIQUIDGEMM_EVERY x[i] = greater(set1(numerics::kExpLow), x[i]);
  LIQUIDGEMM_EVERY x[i] = less(set1(numerics::kExpHigh), x[i]);
  LIQUIDGEMM_EVERY n[i] = mul(x[i], set1(numerics::kLog2E));
  LIQUIDGEMM_EVERY n[i] = round(n[i]);
  LIQUIDGEMM_EVERY p[i] = mul(n[i], set1(numerics::kLn2High));
  LIQUIDGEMM_EVERY x[i] = sub(x[i], p[i]);
  LIQUIDGEMM_EVERY p[i] = mul(n[i], set1(numerics::kLn2Low));
  LIQUIDGEMM_EVERY x[i] = sub(x[i], p[i]);
  LIQUIDGEMM_EVERY p[i] = mul(set1(0x1.6c16c2p-10f), x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(0x1.111112p-7f));
  LIQUIDGEMM_EVERY p[i] = mul(p[i], x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(0x1.555556p-5f));
  LIQUIDGEMM_EVERY p[i] = mul(p[i], x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(0x1.555556p-3f));
  LIQUIDGEMM_EVERY p[i] = mul(p[i], x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(0.5f));
  LIQUIDGEMM_EVERY p[i] = mul(p[i], x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(1.0f));
  LIQUIDGEMM_EVERY p[i] = mul(p[i], x[i]);
  LIQUIDGEMM_EVERY p[i] = add(p[i], set1(1.0f));
  LIQUIDGEMM_EVERY x[i] = times_power_of_two(p[i], n[i]);
#undef LIQUIDGEMM_EVERY
}

}  // namespace
}  // namespace liquidgemm
