// A group of linear layers in device memory, as the Hopper GEMM reads them.
//
// Parts of a group that differ in scheme or group size all become INT8: a LiquidQuant weight is
// one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gemm/cuda/handles.h"
#include "liquidgemm/cuda_gemm.h"
#include "model/cuda/cuda_linear.h"
#include "model/weights.h"

namespace liquidgemm {

class CudaQuantizedLinear final : public CudaLinear {
 public:
  // Uploads and packs `parts`, stacked along N and padded to a multiple of 8 channels; waits for
  // the stream. `gated`: they are a gate and its up, each padded, and y = SiLU(gate) * up.
  static Result<std::unique_ptr<CudaLinear>> make(std::span<const LoadedMatrix> parts, bool gated,
                                                  const CudaDevice& device, cudaStream_t stream);

  // Device bytes that `forms`, stacked, will take.
  static std::size_t bytes_of(std::span<const WeightView> forms, bool gated);

  std::size_t bytes() const override { return packed_.size() + bias_.size(); }
  std::string describe() const override;  // "liquid4 g64, w4a8 sm90", "int8, w8a8 sm90"
  Result<std::size_t> workspace_bytes(std::int64_t m) override;
  // y in float.
  Status run(const CudaRows& x, const CudaOutputRows& out, void* workspace,
             cudaStream_t stream) override;

 private:
  Result<const CudaGemmPlan*> plan(std::int64_t m);

  const CudaDevice* device_ = nullptr;
  CudaGemmDesc desc_;
  cuda::DeviceBuffer packed_;
  cuda::DeviceBuffer bias_;
  // A plan for each number of tokens that has come; layers of one shape share them.
  std::shared_ptr<std::map<std::int64_t, CudaGemmPlan>> plans_;
};

}  // namespace liquidgemm
