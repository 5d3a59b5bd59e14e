// cuBLASLt as a rival: its library is opened at run time, so the program starts without it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/gemm_bench.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// One product y[m, n] = x[m, k] * w[n, k]^T of a type, with the algorithms cuBLASLt offers for it.
class CublasProduct {
 public:
  virtual ~CublasProduct() = default;
  // As many as were asked for, or all there are; none where cuBLASLt does not take the shape.
  virtual int candidates() const = 0;
  virtual std::string describe(int candidate) const = 0;
  // kUnsupported where the library refuses this algorithm after all.
  virtual Status launch(int candidate, const void* w, const void* x, void* y,
                        cudaStream_t stream) const = 0;
};

class CublasLt {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

  // `path`: the library or a folder that holds it; empty: the loader's search, then the toolkit's
  // usual folders.
  static Result<std::unique_ptr<CublasLt>> open(const std::string& path);
  virtual ~CublasLt() = default;

  virtual std::string version() const = 0;
  // FP16: FP16 out, float sums. FP8: E4M3 in, BF16 out, fast accumulation. INT8: INT32 out.
  virtual Result<std::unique_ptr<CublasProduct>> make(Rival rival, std::int64_t n, std::int64_t k,
                                                      std::int64_t m, int candidates) const = 0;
};

}  // namespace liquidgemm::bench
