// A group of linear layers in device memory, in one of the forms that a step can run: quantised
// (cuda_quantized_linear.h), an FP16 head (cuda_fp16_head.h), or all FP16 (cuda_float_linear.h).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <string>

#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

// Rows in device memory, as the linear layers of a model read them: quantised, or f16.
struct CudaRows {
  std::int64_t m = 0;
  std::int8_t* x8 = nullptr;
  std::int64_t ld = 0;  // of x8
  float* scale = nullptr;
  std::int32_t* sum = nullptr;
  const void* f16 = nullptr;  // [m, K], without gaps; a CudaFp16Head's in tiles
};

// Where a layer's output goes: [m, width()], without gaps, of the type that the layer was made for.
struct CudaOutputRows {
  void* y = nullptr;
  CudaRowAmax amax = {};  // for a quantised gated layer to raise, or nothing
};

class CudaLinear {
 public:
  virtual ~CudaLinear() = default;

  std::int64_t width() const { return width_; }  // of the output, padding included
  virtual std::size_t bytes() const = 0;
  virtual std::string describe() const = 0;  // "liquid4 g64, w4a8 sm90"

  // Chooses kernels for these numbers of tokens where that takes time, all layers being loaded. `x`
  // holds as many rows as the largest of them, `y` is overwritten.
  virtual Status tune(std::span<const std::int64_t>, const CudaRows&, void* /*y*/, cudaStream_t) {
    return ok_status();
  }
  // Bytes of workspace that a launch with m tokens needs; to be called before it.
  virtual Result<std::size_t> workspace_bytes(std::int64_t m) = 0;
  virtual Status run(const CudaRows& x, const CudaOutputRows& out, void* workspace,
                     cudaStream_t stream) = 0;

 protected:
  std::int64_t width_ = 0;
};

}  // namespace liquidgemm
