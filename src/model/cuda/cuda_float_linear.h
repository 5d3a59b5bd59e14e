// A group of linear layers with FP16 weights in device memory, run by cuBLASLt: the rival that W4A8
// is measured against, in the same engine.
//
//   weights   f16 [N, K], the parts stacked along N; rows and columns of zeros pad N, or each part,
//             and K to multiples of 8
//   x         f16 [m, K]
//   y         f16 or float [m, N]
//
// cuBLASLt sums in an order that depends on the number of rows: results depend on the batch.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/thread_pool.h"
#include "gemm/cuda/handles.h"
#include "liquidgemm/cuda_gemm.h"
#include "model/cuda/cuda_linear.h"
#include "model/cuda/float_product.h"
#include "model/weights.h"

namespace liquidgemm {

class CudaFloatLinear final : public CudaLinear {
 public:
  CudaFloatLinear(std::shared_ptr<FloatProduct> product, cuda::DeviceBuffer weights,
                  cuda::DeviceBuffer bias, std::int64_t width);

  const void* weights() const { return weights_.bytes(); }
  std::size_t bytes() const override { return weights_.size() + bias_.size(); }
  std::string describe() const override { return "fp16, cuBLASLt"; }
  Status tune(std::span<const std::int64_t> rows, const CudaRows& x, void* y,
              cudaStream_t stream) override;
  // None beside cuBLASLt's own.
  Result<std::size_t> workspace_bytes(std::int64_t m) override;
  Status run(const CudaRows& x, const CudaOutputRows& out, void* workspace,
             cudaStream_t stream) override;

 private:
  std::shared_ptr<FloatProduct> product_;
  cuda::DeviceBuffer weights_, bias_;
};

// Makes the linear layers of one model; those of one shape share their products. Outlives them.
class CudaFloatLinears {
 public:
  // kUnsupported where cuBLASLt cannot be opened.
  static Result<std::unique_ptr<CudaFloatLinears>> open();

  std::string version() const { return library_->version(); }

  // `parts` in float, stacked along N; `padded_parts`: each is padded to a multiple of 8 channels
  // (gate and up, so that the halves of a row are as wide as each other and aligned). A weight that
  // f16 does not hold is an error. `output`: f16 or float.
  Result<std::unique_ptr<CudaFloatLinear>> make(std::span<const LoadedMatrix> parts,
                                                bool padded_parts, CudaFloat output,
                                                ThreadPool& pool);
  static std::size_t bytes_of(std::span<const WeightView> forms, bool padded_parts);
  // A matrix in f16 as the weights are, without padding of N.
  static Result<cuda::DeviceBuffer> upload(const LoadedMatrix& matrix, ThreadPool& pool);

 private:
  std::unique_ptr<cuda::CublasLt> library_;
  std::map<std::array<std::int64_t, 4>, std::shared_ptr<FloatProduct>> products_;
};

}  // namespace liquidgemm
