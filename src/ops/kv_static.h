// A value as a code of the static INT8 cache (docs/numerics.md), the same on the CPU and the GPU.
#pragma once

#include <cmath>

#include "gemm/numerics.h"

namespace liquidgemm::numerics {

// `reciprocal` is 1 / the channel's scale. There is no code for a NaN: it becomes -127.
LIQUIDGEMM_HOST_DEVICE int kv_static_code(float x, float reciprocal) {
  float scaled = rintf(x * reciprocal);
  if (!(scaled > -127.0f)) scaled = -127.0f;
  if (scaled > 127.0f) scaled = 127.0f;
  return static_cast<int>(scaled);
}

}  // namespace liquidgemm::numerics
