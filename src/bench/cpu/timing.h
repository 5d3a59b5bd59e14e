// How `liquid bench gemm --device cpu` and its rival time a product: both in the same way.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace liquidgemm::bench::cpu {

template <typename Job>
double seconds_of(std::int64_t calls, const Job& job) {
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < calls; ++i) job();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// How many calls take that long, found while warming up.
template <typename Job>
std::int64_t calls_for(double seconds, const Job& job) {
  std::int64_t calls = 1;
  while (true) {
    const double taken = seconds_of(calls, job);
    if (taken >= seconds) return calls;
    // Not in one leap: the first calls are slower than those that follow.
    const double needed = static_cast<double>(calls) * seconds / std::max(taken, 1e-7);
    calls = std::clamp(static_cast<std::int64_t>(needed) + 1, calls + 1, calls * 8);
  }
}

}  // namespace liquidgemm::bench::cpu
