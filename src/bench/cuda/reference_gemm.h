// The check of every timed output. The reference reads the checkpoint form of the weights in plain
// loops and shares no code and no layout with the kernels that are timed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "bench/cuda/device.h"
#include "bench/cuda/operands.h"
#include "bench/goal_shapes.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::bench {

class Reference {
 public:
  // At most this many tokens are checked, each with all channels.
  static constexpr std::int64_t kTokens = 64;

  // Computes the outputs for `tokens`, rows of x.
  static Result<Reference> make(const Shape& shape, int group_size, CudaOutput output,
                                const WeightFormats& weights, const ActivationFormats& x,
                                std::vector<std::int32_t> tokens, cudaStream_t stream);

  // kInternal, naming the first token and channel, unless y [m, n] has exactly these bits in the
  // checked tokens. Waits for the stream.
  Status check(const void* y, cudaStream_t stream) const;

  std::int64_t checked() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  std::int64_t n_ = 0;
  std::vector<std::int32_t> tokens_;
  DeviceBuffer device_tokens_;
  DeviceBuffer expected_;        // [tokens, n], 16 bits each
  DeviceBuffer first_mismatch_;  // u64 index into expected_
};

enum class RivalOutput { kFloat16, kBFloat16, kInt32 };

// ||y - w x|| / ||w x|| over the first tokens (at most 4) of a rival's y [m, n], against a product
// in float of the FP16 operands. The rival's y is multiplied by `factor`, and an INT32 one by the
// token's and the channel's scale. Waits for the stream.
Result<double> relative_error(const Shape& shape, std::int64_t m, const WeightFormats& weights,
                              const ActivationFormats& x, const void* y, RivalOutput output,
                              float factor, cudaStream_t stream);

}  // namespace liquidgemm::bench
