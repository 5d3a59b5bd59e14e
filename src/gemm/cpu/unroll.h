// Loops over accumulators must vanish at compile time: an array that is indexed by a loop variable
// lives in memory, and a kernel whose accumulators live in memory reaches a third of its speed.
// Every such loop (start, body and store alike) carries this mark.
#pragma once

#if defined(__clang__)
#define LIQUIDGEMM_UNROLL _Pragma("unroll")
#else
#define LIQUIDGEMM_UNROLL _Pragma("GCC unroll 32")
#endif

#define LIQUIDGEMM_INLINE static inline __attribute__((always_inline))
