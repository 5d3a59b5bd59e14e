#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <utility>

#include "bench/cuda/operands.h"

namespace liquidgemm::bench {
namespace {

constexpr int kThreads = 256;
constexpr float kLevel1Max = 119.0f;  // LiquidQuant keeps level 1 in [-119, 119]
constexpr float kE4m3Max = 448.0f;
constexpr float kWeightDeviation = 0.02f;
constexpr std::uint64_t kActivationStream = 0x9e3779b97f4a7c15ull;

__device__ std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The `index`-th number of the stream `seed`, normally distributed (Box and Muller).
__device__ float gaussian(std::uint64_t seed, std::uint64_t index) {
  const std::uint64_t bits = mix(index * 0x9e3779b97f4a7c15ull + mix(seed));
  // (0, 1] and [0, 1)
  const float u = (static_cast<float>(static_cast<std::uint32_t>(bits) >> 8) + 1.0f) * 0x1p-24f;
  const float v = static_cast<float>(static_cast<std::uint32_t>(bits >> 32) >> 8) * 0x1p-24f;
  return sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
}

// The largest |value| of each row, and of the whole matrix as the bits of a float (which order
// like the float while it is not negative). One block a row.
__global__ void row_maxima(std::uint64_t seed, float deviation, std::int64_t k, float* scale,
                           float divisor, unsigned* matrix_maximum) {
  const std::int64_t row = blockIdx.x;
  float largest = 0.0f;
  for (std::int64_t i = threadIdx.x; i < k; i += kThreads) {
    largest = fmaxf(largest, fabsf(deviation * gaussian(seed, row * k + i)));
  }
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = largest;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      shared[threadIdx.x] = fmaxf(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  if (scale != nullptr) scale[row] = shared[0] / divisor;
  atomicMax(matrix_maximum, __float_as_uint(shared[0]));
}

// Every format that stores one value at a time; a null pointer is left out. One block a row.
__global__ void write_formats(std::uint64_t seed, float deviation, std::int64_t k,
                              const float* channel_scale, const unsigned* matrix_maximum,
                              std::int8_t* int8, __half* f16, __nv_fp8_e4m3* e4m3) {
  const std::int64_t row = blockIdx.x;
  const float e4m3_scale = kE4m3Max / __uint_as_float(*matrix_maximum);
  for (std::int64_t i = threadIdx.x; i < k; i += kThreads) {
    const std::int64_t at = row * k + i;
    const float value = deviation * gaussian(seed, at);
    if (int8 != nullptr) int8[at] = static_cast<std::int8_t>(rintf(value / channel_scale[row]));
    if (f16 != nullptr) f16[at] = __float2half_rn(value);
    if (e4m3 != nullptr) e4m3[at] = __nv_fp8_e4m3(value * e4m3_scale);
  }
}

// LiquidQuant's level 2 of one group from its level-1 integers: step = round(range / 15), offset =
// the smallest level, codes by rounding, clamped so that code * step + offset stays in a byte.
__global__ void quantize_groups(const std::int8_t* levels, std::int64_t n, std::int64_t k,
                                int group_size, std::uint8_t* packed, std::uint8_t* step,
                                std::uint8_t* offset) {
  const std::int64_t groups = (k + group_size - 1) / group_size;
  const std::int64_t group = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (group >= n * groups) return;
  const std::int64_t row = group / groups;
  const std::int64_t begin = group % groups * group_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(group_size), k - begin));
  const std::int8_t* values = levels + row * k + begin;
  int low = 127;
  int high = -128;
  for (int i = 0; i < count; ++i) {
    low = min(low, static_cast<int>(values[i]));
    high = max(high, static_cast<int>(values[i]));
  }
  const int s = max(1, min(16, (2 * (high - low) + 15) / 30));
  const int a = low + 128;
  const int largest = min(15, (255 - a) / s);
  const auto code = [&](int i) { return min(largest, (2 * (values[i] - low) + s) / (2 * s)); };
  for (int i = 0; i < count; i += 2) {
    packed[(row * k + begin + i) / 2] = static_cast<std::uint8_t>(code(i) | code(i + 1) << 4);
  }
  step[group] = static_cast<std::uint8_t>(s);
  offset[group] = static_cast<std::uint8_t>(a);
}

Result<float> read_maximum(const DeviceBuffer& maximum, cudaStream_t stream) {
  float value = 0.0f;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(&value, maximum.as<void>(), sizeof value, cudaMemcpyDeviceToHost, stream));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  return value;
}

}  // namespace

Result<WeightFormats> make_weights(const Shape& shape, int group_size, bool rivals,
                                   std::uint64_t seed, cudaStream_t stream) {
  const std::int64_t n = shape.n;
  const std::int64_t k = shape.k;
  const std::int64_t groups = (k + group_size - 1) / group_size;
  const std::size_t count = static_cast<std::size_t>(n * k);
  WeightFormats weights;
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer maximum, DeviceBuffer::allocate(4, "a maximum"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(weights.channel_scale,
                              DeviceBuffer::allocate(n * sizeof(float), "channel scales"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(weights.int8, DeviceBuffer::allocate(count, "INT8 weights"));
  if (rivals) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(weights.f16, DeviceBuffer::allocate(count * 2, "FP16 weights"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(weights.e4m3, DeviceBuffer::allocate(count, "FP8 weights"));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(weights.packed, DeviceBuffer::allocate(count / 2, "4-bit weights"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(weights.group_step, DeviceBuffer::allocate(n * groups, "steps"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(weights.group_offset, DeviceBuffer::allocate(n * groups, "offsets"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(maximum.as<void>(), 0, 4, stream));
  row_maxima<<<n, kThreads, 0, stream>>>(seed, kWeightDeviation, k,
                                         weights.channel_scale.as<float>(), kLevel1Max,
                                         maximum.as<unsigned>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("row_maxima"));
  write_formats<<<n, kThreads, 0, stream>>>(
      seed, kWeightDeviation, k, weights.channel_scale.as<float>(), maximum.as<unsigned>(),
      weights.int8.as<std::int8_t>(), weights.f16.as<__half>(), weights.e4m3.as<__nv_fp8_e4m3>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("write_formats"));
  quantize_groups<<<(n * groups + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      weights.int8.as<std::int8_t>(), n, k, group_size, weights.packed.as<std::uint8_t>(),
      weights.group_step.as<std::uint8_t>(), weights.group_offset.as<std::uint8_t>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("quantize_groups"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const float largest, read_maximum(maximum, stream));
  weights.e4m3_scale = kE4m3Max / largest;
  return std::move(weights);
}

Result<ActivationFormats> make_activations(std::int64_t m, std::int64_t k, bool rivals,
                                           std::uint64_t seed, cudaStream_t stream) {
  const std::size_t count = static_cast<std::size_t>(m * k);
  const std::uint64_t stream_seed = seed ^ kActivationStream;
  ActivationFormats x;
  LIQUIDGEMM_ASSIGN_OR_RETURN(DeviceBuffer maximum, DeviceBuffer::allocate(4, "a maximum"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(x.f16, DeviceBuffer::allocate(count * 2, "FP16 activations"));
  if (rivals) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(x.e4m3, DeviceBuffer::allocate(count, "FP8 activations"));
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(x.int8, DeviceBuffer::allocate(count, "INT8 activations"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(x.scale, DeviceBuffer::allocate(m * sizeof(float), "token scales"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(x.sum,
                              DeviceBuffer::allocate(m * sizeof(std::int32_t), "token sums"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(maximum.as<void>(), 0, 4, stream));
  row_maxima<<<m, kThreads, 0, stream>>>(stream_seed, 1.0f, k, nullptr, 1.0f,
                                         maximum.as<unsigned>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("row_maxima"));
  write_formats<<<m, kThreads, 0, stream>>>(stream_seed, 1.0f, k, nullptr, maximum.as<unsigned>(),
                                            nullptr, x.f16.as<__half>(),
                                            x.e4m3.as<__nv_fp8_e4m3>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("write_formats"));
  const CudaQuantizeArguments quantize{.x = x.f16.as<void>(),
                                       .ld_x = k,
                                       .type = CudaFloat::kFloat16,
                                       .m = m,
                                       .k = k,
                                       .x8 = x.int8.as<std::int8_t>(),
                                       .ld_x8 = k,
                                       .scale = x.scale.as<float>(),
                                       .sum = x.sum.as<std::int32_t>()};
  LIQUIDGEMM_RETURN_IF_ERROR(quantize_rows(quantize, stream));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const float largest, read_maximum(maximum, stream));
  x.e4m3_scale = kE4m3Max / largest;
  return std::move(x);
}

}  // namespace liquidgemm::bench
