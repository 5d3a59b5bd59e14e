// The products of all layers of one shape by cuBLASLt, each number of tokens with the algorithm
// that was fastest when it was tried.
//
// Numbers of tokens in between take the algorithm of the next larger one that was tried. Trying
// rotates through the layers' weights, so that it reads device memory as a step does.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gemm/cuda/cublaslt.h"

namespace liquidgemm {

class FloatProduct {
 public:
  // `shape.m` does not matter. `library` outlives this.
  FloatProduct(const cuda::CublasLt& library, const cuda::CublasShape& shape)
      : library_(library), shape_(shape) {}

  // Another layer of this shape.
  void add_layer(const void* weights, const void* bias) { layers_.push_back({weights, bias}); }

  // Tries algorithms for each of these numbers of tokens that has not been tried. `x` holds as many
  // rows as the largest, `y` is overwritten. Waits for the stream.
  Status tune(std::span<const std::int64_t> rows, const void* x, void* y, cudaStream_t stream);

  struct Choice {
    std::unique_ptr<cuda::CublasProduct> product;
    int candidate = 0;
  };
  // kUnsupported where cuBLASLt has no algorithm.
  Result<const Choice*> choice(std::int64_t m);

 private:
  struct Layer {
    const void* weights = nullptr;
    const void* bias = nullptr;
  };
  Result<Choice> try_all(std::int64_t m, const void* x, void* y, cudaStream_t stream) const;
  Result<std::unique_ptr<cuda::CublasProduct>> make(std::int64_t m, int candidates) const;

  const cuda::CublasLt& library_;
  cuda::CublasShape shape_;
  std::vector<Layer> layers_;
  std::map<std::int64_t, Choice> tried_;    // by number of tokens
  std::map<std::int64_t, Choice> between_;  // likewise
};

}  // namespace liquidgemm
