// One pair of Gaussian matrices, W [n, k] and X [m, k], in every format that is compared. They come
// from a counter-based generator, so each format is made of the same numbers without a float copy
// of W ever being stored.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "bench/cuda/device.h"
#include "bench/goal_shapes.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::bench {

// W in the formats that are not packed; the caller keeps the buffers.
struct WeightFormats {
  DeviceBuffer channel_scale;  // f32 [n], max|w| / 119: LiquidQuant's level 1, INT8 as well
  DeviceBuffer int8;           // [n, k]
  DeviceBuffer f16;            // [n, k]
  DeviceBuffer e4m3;           // [n, k], w * e4m3_scale
  float e4m3_scale = 1.0f;
  // LiquidQuant in checkpoint form.
  DeviceBuffer packed;        // [n, k/2]
  DeviceBuffer group_step;    // [n, groups]
  DeviceBuffer group_offset;  // [n, groups]

  // What pack_weights() reads.
  CudaWeightSource source(const std::string& name) const {
    return {.packed = packed.as<std::uint8_t>(),
            .group_step = group_step.as<std::uint8_t>(),
            .group_offset = group_offset.as<std::uint8_t>(),
            .channel_scale = channel_scale.as<float>(),
            .name = name};
  }
};

struct ActivationFormats {
  DeviceBuffer f16;   // [m, k]
  DeviceBuffer e4m3;  // [m, k], x * e4m3_scale
  float e4m3_scale = 1.0f;
  DeviceBuffer int8;   // [m, k]
  DeviceBuffer scale;  // f32 [m]
  DeviceBuffer sum;    // i32 [m]
};

// `rivals` false leaves f16 and e4m3 of W empty. Waits for the stream.
Result<WeightFormats> make_weights(const Shape& shape, int group_size, bool rivals,
                                   std::uint64_t seed, cudaStream_t stream);
// INT8 through quantize_rows(), as a model would.
Result<ActivationFormats> make_activations(std::int64_t m, std::int64_t k, bool rivals,
                                           std::uint64_t seed, cudaStream_t stream);

}  // namespace liquidgemm::bench
