// One product of a cell: its activations, its outputs, and how it is run and checked.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "bench/cpu/layer.h"
#include "gemm/gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench::cpu {

class Product {
 public:
  Product(const Layer& layer, std::int64_t m, Isa isa, std::uint64_t seed, ThreadPool& pool);

  // Float activations to INT8, as the engine does it: tokens divided among the threads.
  void quantize();
  // The GEMM by the layer's next copy.
  void multiply();

  // Runs the product once more on outputs that were overwritten, and compares: its outputs with
  // those that the last call left, all of them; and with the reference, in kCheckedTokens tokens
  // chosen at random times all channels. Says which one differs. `checked`: the tokens compared
  // with the reference.
  static constexpr std::int64_t kCheckedTokens = 3;
  Status check(std::int64_t& checked);

  std::vector<float>& outputs() { return outputs_; }

 private:
  const Layer& layer_;
  std::int64_t m_;
  Isa isa_;
  std::uint64_t seed_;
  ThreadPool& pool_;
  std::size_t next_copy_ = 0;
  std::vector<float> activations_;
  std::vector<std::int8_t> x8_;
  std::vector<float> scale_;
  std::vector<std::int32_t> sum_;
  std::vector<float> outputs_;
};

// Bytes that a Product of that size keeps.
double product_bytes(const Shape& shape, std::int64_t m);

}  // namespace liquidgemm::bench::cpu
