// L2 cache policies, encoded as createpolicy.fractional makes them for the whole access.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda::ptx {

inline constexpr std::uint64_t kEvictNormal = 0x1000000000000000ull;
inline constexpr std::uint64_t kEvictFirst = 0x12F0000000000000ull;
inline constexpr std::uint64_t kEvictLast = 0x14F0000000000000ull;

}  // namespace liquidgemm::cuda::ptx
