// cuBLASLt: its library is opened at run time, so the program starts without it. It is the rival of
// the W4A8 product, alone (bench gemm) and in a whole model (--precision fp16).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

// Types of the operands, of the output, of the sums.
enum class CublasType {
  kF16,     // f16, f16, float
  kF16F32,  // f16, float, float
  kE4m3,    // FP8 E4M3, bf16, float with fast accumulation
  kInt8,    // int8, int32, int32
};

// y[m, n] = x[m, k] * w[n, k]^T (+ bias[n]); all rows without gaps.
struct CublasShape {
  CublasType type = CublasType::kF16;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t m = 0;
  bool bias = false;  // of the output's type
};

struct CublasOperands {
  const void* w = nullptr;
  const void* x = nullptr;
  void* y = nullptr;
  const void* bias = nullptr;  // where the shape has one
};

// One product, with the algorithms that cuBLASLt offers for it, those first that it thinks best.
class CublasProduct {
 public:
  virtual ~CublasProduct() = default;
  // As many as were asked for, or all there are; none where cuBLASLt does not take the shape.
  virtual int candidates() const = 0;
  virtual std::string describe(int candidate) const = 0;
  // kUnsupported where the library refuses this algorithm after all. Products of one library share
  // a workspace: they run on one stream.
  virtual Status launch(int candidate, const CublasOperands& operands,
                        cudaStream_t stream) const = 0;
};

class CublasLt {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

  // `path`: the library or a folder that holds it; empty: what LIQUIDGEMM_CUBLAS_LIB names, else
  // the loader's search, then the toolkit's usual folders. kUnsupported where there is none.
  static Result<std::unique_ptr<CublasLt>> open(const std::string& path = "");
  virtual ~CublasLt() = default;

  virtual std::string version() const = 0;
  virtual Result<std::unique_ptr<CublasProduct>> make(const CublasShape& shape,
                                                      int candidates) const = 0;
  // With one candidate: the algorithm that was chosen for `other`, which differs in m alone. None
  // where it does not take this m.
  virtual Result<std::unique_ptr<CublasProduct>> make_like(const CublasProduct& other,
                                                           int candidate, std::int64_t m) const = 0;
};

}  // namespace liquidgemm::cuda
