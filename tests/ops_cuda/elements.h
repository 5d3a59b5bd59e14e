// The cache's elements, for tests of what depends on them.
#pragma once

#include <cstdint>

#include "base/half.h"
#include "ops/cuda/kv_page.h"

namespace liquidgemm::cuda::testing {

inline constexpr KvElement kElements[] = {KvElement::kF16, KvElement::kBf16, KvElement::kInt8,
                                          KvElement::kInt8Static, KvElement::kInt4};

inline const char* element_name(KvElement element) {
  switch (element) {
    case KvElement::kF16: return "f16";
    case KvElement::kBf16: return "bf16";
    case KvElement::kInt8: return "int8";
    case KvElement::kInt8Static: return "int8-static";
    case KvElement::kInt4: break;
  }
  return "int4";
}

// A number as queries are stored with this cache, and the cache's own where it is one of floats:
// bf16 with a bf16 cache, otherwise f16.
inline std::uint16_t to_two_bytes(KvElement element, float value) {
  return element == KvElement::kBf16 ? float_to_bf16(value) : float_to_f16(value);
}
inline float from_two_bytes(KvElement element, std::uint16_t bits) {
  return element == KvElement::kBf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

}  // namespace liquidgemm::cuda::testing
