#include "gemm/cpu/linear.h"

#include <algorithm>
#include <atomic>

namespace liquidgemm::cpu {

std::int64_t block_tokens(std::int64_t bytes_per_token, int max_tile) {
  const std::int64_t fitting = kActivationBytes / std::max<std::int64_t>(bytes_per_token, 1);
  return std::clamp<std::int64_t>(fitting, max_tile, kMaxBlockTokens);
}

bool reserve_scratch(ThreadPool& pool, std::size_t activation_bytes, std::size_t worker_bytes) {
  std::atomic<bool> enough{activation_scratch().reserve(activation_bytes)};
  pool.run([&](int) {
    if (!worker_scratch().reserve(worker_bytes)) enough = false;
  });
  return enough;
}

}  // namespace liquidgemm::cpu
