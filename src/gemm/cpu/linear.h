// The drivers: they cut a call into blocks of tokens, have the activations packed, and give each
// thread its share of the panels, or of the tokens where panels are few.
//
// Threads divide n or m, never k: every output is summed by one thread, and in float in one order.
#pragma once

#include <memory>

#include "gemm/cpu/kernels.h"
#include "gemm/cpu/packed_weights.h"
#include "gemm/gemm.h"

namespace liquidgemm::cpu {

// Both take weights that were packed for `kernel`, and reserve the scratch of pool's threads.
Result<std::unique_ptr<CpuLinear>> make_integer_linear(const WeightView& weight,
                                                       PackedWeights packed,
                                                       const IntegerKernel& kernel, Isa isa,
                                                       ThreadPool& pool);
Result<std::unique_ptr<CpuLinear>> make_float_linear(const WeightView& weight, PackedWeights packed,
                                                     const FloatKernel& kernel, Isa isa,
                                                     ThreadPool& pool);

// Tokens of one block: packed activations stay near kActivationBytes, so scratch is bounded and the
// block stays in the shared cache; a decoded panel is used by that many tokens.
inline constexpr std::int64_t kActivationBytes = std::int64_t{8} << 20;
inline constexpr std::int64_t kMaxBlockTokens = 512;
std::int64_t block_tokens(std::int64_t bytes_per_token, int max_tile);

// Grows the scratch of the calling thread and of every worker. False: out of memory.
bool reserve_scratch(ThreadPool& pool, std::size_t activation_bytes, std::size_t worker_bytes);

// The first of `count` things that are that worker's.
inline std::int64_t share_begin(std::int64_t count, std::int64_t worker, std::int64_t threads) {
  return count * worker / threads;
}

// Calls body(begin, end, worker) on every thread of the pool with its share of 0 .. count-1. Unlike
// parallel_for it wakes nobody when `threaded` is false, and it allocates nothing: the job handed
// to the pool captures one pointer, which std::function stores in place.
template <typename Body>
void share(ThreadPool& pool, std::int64_t count, bool threaded, const Body& body) {
  if (!threaded || pool.threads() == 1 || count == 1) {
    body(std::int64_t{0}, count, 0);
    return;
  }
  struct Call {
    const Body& body;
    std::int64_t count;
    std::int64_t threads;
  };
  const Call call{body, count, pool.threads()};
  pool.run([&call](int worker) {
    const std::int64_t begin = share_begin(call.count, worker, call.threads);
    const std::int64_t end = share_begin(call.count, worker + 1, call.threads);
    if (begin < end) call.body(begin, end, worker);
  });
}

}  // namespace liquidgemm::cpu
