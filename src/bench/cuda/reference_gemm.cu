#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "bench/cuda/reference_gemm.h"
#include "gemm/numerics.h"

namespace liquidgemm::bench {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 4096;  // channels' weights are unpacked this many columns at a time
constexpr int kTokensPerWarp = Reference::kTokens / (kThreads / 32);
constexpr unsigned long long kNone = ~0ull;

__device__ int warp_sum(int value) {
  for (int half = 16; half > 0; half /= 2) value += __shfl_down_sync(0xffffffffu, value, half);
  return value;
}

// One block a channel. w = q * s + a - 128 fits a signed byte, so four columns are one dp4a.
template <bool kBFloat16>
__global__ void __launch_bounds__(kThreads)
    reference_gemm(const std::uint8_t* packed, const std::uint8_t* step, const std::uint8_t* offset,
                   const float* channel_scale, int group_size, const std::int8_t* x8,
                   const float* x_scale, const std::int32_t* tokens, int token_count,
                   std::int64_t n, std::int64_t k, std::uint16_t* y) {
  __shared__ int weights[kChunk / 4];
  const std::int64_t channel = blockIdx.x;
  const std::int64_t groups = (k + group_size - 1) / group_size;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  int sums[kTokensPerWarp] = {};
  for (std::int64_t begin = 0; begin < k; begin += kChunk) {
    const int words = static_cast<int>(min(static_cast<std::int64_t>(kChunk), k - begin)) / 4;
    __syncthreads();
    for (int i = threadIdx.x; i < words; i += kThreads) {
      const std::int64_t column = begin + 4 * i;
      const std::int64_t group = channel * groups + column / group_size;
      const int s = step[group];
      const int a = offset[group];
      unsigned word = 0;
      for (int j = 0; j < 4; ++j) {
        const int byte = packed[(channel * k + column + j) / 2];
        const int q = j % 2 == 0 ? byte & 15 : byte >> 4;
        word |= static_cast<unsigned>((q * s + a - 128) & 255) << (8 * j);
      }
      weights[i] = static_cast<int>(word);
    }
    __syncthreads();
#pragma unroll
    for (int t = 0; t < kTokensPerWarp; ++t) {
      const int index = t * (kThreads / 32) + warp;
      if (index >= token_count) continue;
      const int* x = reinterpret_cast<const int*>(x8 + tokens[index] * k + begin);
      for (int i = lane; i < words; i += 32) sums[t] = __dp4a(weights[i], x[i], sums[t]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTokensPerWarp; ++t) {
    const int index = t * (kThreads / 32) + warp;
    const int sum = warp_sum(sums[t]);
    if (lane != 0 || index >= token_count) continue;
    const float value = numerics::scale_output(sum, x_scale[tokens[index]], channel_scale[channel]);
    y[index * n + channel] = kBFloat16 ? __bfloat16_as_ushort(__float2bfloat16_rn(value))
                                       : __half_as_ushort(__float2half_rn(value));
  }
}

__global__ void compare(const std::uint16_t* expected, const std::uint16_t* y,
                        const std::int32_t* tokens, int token_count, std::int64_t n,
                        unsigned long long* first) {
  const std::int64_t total = token_count * n;
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; i < total;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    if (expected[i] != y[tokens[i / n] * n + i % n]) {
      atomicMin(first, static_cast<unsigned long long>(i));
    }
  }
}

__device__ float rival_value(const void* y, RivalOutput output, std::int64_t at, float token_scale,
                             float channel_scale) {
  switch (output) {
    case RivalOutput::kFloat16: return __half2float(static_cast<const __half*>(y)[at]);
    case RivalOutput::kBFloat16: return __bfloat162float(static_cast<const __nv_bfloat16*>(y)[at]);
    case RivalOutput::kInt32: break;
  }
  return static_cast<float>(static_cast<const std::int32_t*>(y)[at]) * token_scale * channel_scale;
}

// One warp a channel; sums[0] gathers squared differences, sums[1] squared reference values.
__global__ void squared_errors(const __half* w, const __half* x, const float* channel_scale,
                               const float* x_scale, const void* y, RivalOutput output,
                               float factor, int tokens, std::int64_t n, std::int64_t k,
                               double* sums) {
  const std::int64_t channel =
      (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) / 32;
  if (channel >= n) return;
  const int lane = threadIdx.x % 32;
  for (int token = 0; token < tokens; ++token) {
    float sum = 0.0f;
    for (std::int64_t i = lane; i < k; i += 32) {
      sum += __half2float(w[channel * k + i]) * __half2float(x[token * k + i]);
    }
    for (int half = 16; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffu, sum, half);
    if (lane != 0) continue;
    const float value = factor * rival_value(y, output, token * n + channel, x_scale[token],
                                             channel_scale[channel]);
    const double difference = static_cast<double>(value) - static_cast<double>(sum);
    atomicAdd(&sums[0], difference * difference);
    atomicAdd(&sums[1], static_cast<double>(sum) * static_cast<double>(sum));
  }
}

}  // namespace

Result<Reference> Reference::make(const Shape& shape, int group_size, CudaOutput output,
                                  const WeightFormats& weights, const ActivationFormats& x,
                                  std::vector<std::int32_t> tokens, cudaStream_t stream) {
  Reference reference;
  reference.n_ = shape.n;
  reference.tokens_ = std::move(tokens);
  const std::size_t count = reference.tokens_.size();
  LIQUIDGEMM_ASSIGN_OR_RETURN(reference.device_tokens_,
                              DeviceBuffer::allocate(count * sizeof(std::int32_t), "token list"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(reference.expected_,
                              DeviceBuffer::allocate(count * shape.n * 2, "reference outputs"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(reference.first_mismatch_,
                              DeviceBuffer::allocate(sizeof(unsigned long long), "a counter"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(reference.device_tokens_.as<void>(), reference.tokens_.data(),
                      count * sizeof(std::int32_t), cudaMemcpyHostToDevice, stream));
  const auto kernel =
      output == CudaOutput::kBFloat16 ? reference_gemm<true> : reference_gemm<false>;
  kernel<<<shape.n, kThreads, 0, stream>>>(
      weights.packed.as<std::uint8_t>(), weights.group_step.as<std::uint8_t>(),
      weights.group_offset.as<std::uint8_t>(), weights.channel_scale.as<float>(), group_size,
      x.int8.as<std::int8_t>(), x.scale.as<float>(), reference.device_tokens_.as<std::int32_t>(),
      static_cast<int>(count), shape.n, shape.k, reference.expected_.as<std::uint16_t>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("reference_gemm"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  return std::move(reference);
}

Status Reference::check(const void* y, cudaStream_t stream) const {
  unsigned long long first = kNone;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(first_mismatch_.as<void>(), 0xff, sizeof first, stream));
  compare<<<1024, kThreads, 0, stream>>>(
      expected_.as<std::uint16_t>(), static_cast<const std::uint16_t*>(y),
      device_tokens_.as<std::int32_t>(), static_cast<int>(tokens_.size()), n_,
      first_mismatch_.as<unsigned long long>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("compare"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(&first, first_mismatch_.as<void>(), sizeof first,
                                                  cudaMemcpyDeviceToHost, stream));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  if (first == kNone) return ok_status();
  const std::int64_t token = tokens_[first / n_];
  const std::int64_t channel = static_cast<std::int64_t>(first) % n_;
  std::uint16_t expected = 0;
  std::uint16_t found = 0;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(&expected, expected_.as<std::uint16_t>() + first, 2, cudaMemcpyDeviceToHost));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(&found, static_cast<const std::uint16_t*>(y) + token * n_ + channel, 2,
                 cudaMemcpyDeviceToHost));
  char bits[64];
  std::snprintf(bits, sizeof bits, "0x%04x, expected 0x%04x", found, expected);
  return internal_error("wrong output at token " + std::to_string(token) + ", channel " +
                        std::to_string(channel) + ": " + bits);
}

Result<double> relative_error(const Shape& shape, std::int64_t m, const WeightFormats& weights,
                              const ActivationFormats& x, const void* y, RivalOutput output,
                              float factor, cudaStream_t stream) {
  const int tokens = static_cast<int>(m < 4 ? m : 4);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DeviceBuffer sums,
                              DeviceBuffer::allocate(2 * sizeof(double), "two sums"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(sums.as<void>(), 0, sums.size(), stream));
  squared_errors<<<(shape.n * 32 + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      weights.f16.as<__half>(), x.f16.as<__half>(), weights.channel_scale.as<float>(),
      x.scale.as<float>(), y, output, factor, tokens, shape.n, shape.k, sums.as<double>());
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::launch_status("squared_errors"));
  double host[2] = {0.0, 0.0};
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(host, sums.as<void>(), sizeof host, cudaMemcpyDeviceToHost, stream));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  return std::sqrt(host[0] / host[1]);
}

}  // namespace liquidgemm::bench
