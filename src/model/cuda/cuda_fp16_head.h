// A head with FP16 weights beside quantised layers, run by fp16_linear: its logits do not depend on
// the batch.
#pragma once

#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "gemm/cuda/handles.h"
#include "gemm/gemm.h"
#include "model/cuda/cuda_linear.h"

namespace liquidgemm {

class CudaFp16Head final : public CudaLinear {
 public:
  // `weight` is kFp16. A weight that is not finite is an error naming its row.
  static Result<std::unique_ptr<CudaLinear>> make(const WeightView& weight, ThreadPool& pool,
                                                  cudaStream_t stream);
  static std::size_t bytes_of(const WeightView& form);

  std::size_t bytes() const override { return packed_.size(); }
  std::string describe() const override { return "fp16, tensor cores sm90"; }
  Result<std::size_t> workspace_bytes(std::int64_t) override { return std::size_t{0}; }
  Status run(const CudaRows& x, const CudaOutputRows& out, void* workspace,
             cudaStream_t stream) override;

 private:
  std::int64_t k_ = 0;
  cuda::DeviceBuffer packed_;
};

}  // namespace liquidgemm
