// A fresh seed for every run, printed so that a failure can be repeated.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>

namespace liquidgemm::testing {

inline std::uint64_t fresh_seed() {
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

}  // namespace liquidgemm::testing
