// One block a row. A thread takes chunks of four neighbouring dimensions: chunk c belongs to thread
// c mod kThreads. Two chunks at a time, so that all loads of a usual row are under way at once.
#include "ops/cuda/attention_rows.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/quantize_row.cuh"
#include "ops/cuda/attention_state.cuh"
#include "ops/cuda/decode_partial.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kKept = 8192;  // elements of a row that the threads keep; others are made again
constexpr int kAhead = 5;    // splits read at once

enum class Target { kFloat, kInt8, kHalf };

struct RowsKernelArguments {
  const float* v_scale;  // [KV head][head_dim] of a static cache, or null
  float* x;
  std::int64_t ld_x;
  const float* partials;
  const RowSplits* splits;
  int kv_heads;
  int group;
  int head_dim;
  int chunks;
  QuantizedAttention to;
  __half* half;
};

// A row's values, wherever they lie. kWhole: no chunk crosses the end of a head.
template <int kWidth, bool kWhole>
class AttentionRow {
 public:
  __device__ __forceinline__ AttentionRow(const RowsKernelArguments& arguments, std::int64_t row)
      : arguments_(arguments),
        x_(arguments.x + row * arguments.ld_x),
        splits_(arguments.splits[row]) {}

  __device__ __forceinline__ bool is_split() const { return splits_.splits > 1; }

  template <int kCount>
  __device__ __forceinline__ void load(const int (&chunks)[kCount],
                                       float (&values)[kCount][4]) const {
    if (!is_split()) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float4 four = reinterpret_cast<const float4*>(x_)[chunks[i]];
        values[i][0] = four.x;
        values[i][1] = four.y;
        values[i][2] = four.z;
        values[i][3] = four.w;
      }
    } else if constexpr (kWhole) {
      Place places[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) places[i] = place_of(4 * chunks[i]);
      combine<float4>(places, values);
#pragma unroll
      for (int i = 0; i < kCount; ++i) scale(4 * chunks[i], values[i]);
    } else {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        Place places[kCount];
        float one[kCount][1];
#pragma unroll
        for (int j = 0; j < kCount; ++j) places[j] = place_of(4 * chunks[j] + i);
        combine<float>(places, one);
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          scale(4 * chunks[j] + i, one[j]);
#pragma unroll
          for (int k = 0; k < 4; ++k) values[j][k] = k == i ? one[j][0] : values[j][k];
        }
      }
    }
  }

 private:
  struct Place {
    const float* o;
    const float2* sums;
  };

  // By the scales of a static cache's values; the elements are of one head.
  template <int kSize>
  __device__ __forceinline__ void scale(int element, float (&values)[kSize]) const {
    if (arguments_.v_scale == nullptr) return;
    const int kv_width = arguments_.group * arguments_.head_dim;
    const int kv_head = element / kv_width;
    const int d = element % arguments_.head_dim;
    const float* scales = arguments_.v_scale + kv_head * std::int64_t{arguments_.head_dim} + d;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] = values[i] * scales[i];
  }

  // Of the first split.
  __device__ __forceinline__ Place place_of(int element) const {
    const int head = element / arguments_.head_dim;
    const int d = element - head * arguments_.head_dim;
    const int kv_head = head / arguments_.group;
    const int of_group = head - kv_head * arguments_.group;
    const float* partial =
        arguments_.partials +
        (std::int64_t{splits_.first_unit} * arguments_.kv_heads + kv_head) * partial_floats();
    return {partial + of_group * kWidth + d,
            reinterpret_cast<const float2*>(partial + arguments_.group * kWidth) + of_group};
  }
  __device__ __forceinline__ std::int64_t partial_floats() const {
    return std::int64_t{4} * decode_partial_size(kWidth, arguments_.group);
  }

  template <typename Vector, int kCount, int kSize>
  __device__ __forceinline__ void combine(const Place (&places)[kCount],
                                          float (&values)[kCount][kSize]) const {
    static_assert(sizeof(Vector) == kSize * sizeof(float));
    const std::int64_t next = arguments_.kv_heads * partial_floats();
    float m[kCount], l[kCount];
#pragma unroll 1
    for (int begin = 0; begin < splits_.splits; begin += kAhead) {
      Vector outputs[kAhead][kCount];
      float2 sums[kAhead][kCount];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const std::int64_t from = min(begin + i, splits_.splits - 1) * next;
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          outputs[i][j] = __ldcg(reinterpret_cast<const Vector*>(places[j].o + from));
          sums[i][j] = __ldcg(reinterpret_cast<const float2*>(
              reinterpret_cast<const float*>(places[j].sums) + from));
        }
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (begin + i >= splits_.splits) break;
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          const auto& o = reinterpret_cast<const float(&)[kSize]>(outputs[i][j]);
          if (begin + i == 0) {
            m[j] = sums[0][j].x;
            l[j] = sums[0][j].y;
#pragma unroll
            for (int k = 0; k < kSize; ++k) values[j][k] = o[k];
            continue;
          }
          const float largest = fmaxf(m[j], sums[i][j].x);
          const float x = exp_of_difference(m[j] - largest);
          const float y = exp_of_difference(sums[i][j].x - largest);
          m[j] = largest;
          l[j] = l[j] * x + sums[i][j].y * y;
#pragma unroll
          for (int k = 0; k < kSize; ++k) values[j][k] = values[j][k] * x + o[k] * y;
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
#pragma unroll
      for (int k = 0; k < kSize; ++k) values[j][k] = values[j][k] / l[j];
    }
  }

  const RowsKernelArguments& arguments_;
  const float* x_;
  const RowSplits splits_;
};

template <Target kTarget, int kWidth, bool kWhole, int kThreads>
__global__ __launch_bounds__(kThreads) void rows_kernel(
    const __grid_constant__ RowsKernelArguments arguments) {
  constexpr int kPairs = kKept / (8 * kThreads);
  ptx::launch_dependents();
  __shared__ Reduction<kThreads> shared;
  const std::int64_t row = blockIdx.x;
  const AttentionRow<kWidth, kWhole> from(arguments, row);
  ptx::wait_for_previous_kernel();
  if (kTarget == Target::kFloat && !from.is_split()) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int last = arguments.chunks - 1;
  // Chunks behind the end are the last one again.
  const auto load = [&](int pair, float(&values)[2][4]) {
    const int chunk = 2 * pair * kThreads + thread;
    from.load({min(chunk, last), min(chunk + kThreads, last)}, values);
  };
  const int pairs = (arguments.chunks + 2 * kThreads - 1) / (2 * kThreads);

  numerics::RowScale scale{};
  float kept[kPairs][2][4];
  if constexpr (kTarget == Target::kInt8) {
    std::uint32_t largest = 0;
    const auto measure = [&](const float(&values)[2][4]) {
#pragma unroll
      for (int i = 0; i < 8; ++i) largest = max(largest, magnitude_bits(values[i / 4][i % 4]));
    };
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      if (pair >= pairs) break;
      load(pair, kept[pair]);
      measure(kept[pair]);
    }
    for (int pair = kPairs; pair < pairs; ++pair) {
      float values[2][4];
      load(pair, values);
      measure(values);
    }
    scale = row_scale_of(largest, shared);
  }

  std::int32_t sum = 0;
  const auto write = [&](int pair, const float(&values)[2][4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = (2 * pair + i) * kThreads + thread;
      if (chunk > last) break;
      if constexpr (kTarget == Target::kInt8) {
        *reinterpret_cast<std::uint32_t*>(arguments.to.x8 + row * arguments.to.ld_x8 + 4 * chunk) =
            quantize_four(values[i], scale.reciprocal, sum);
      } else if constexpr (kTarget == Target::kHalf) {
        const __half2 low = __floats2half2_rn(values[i][0], values[i][1]);
        const __half2 high = __floats2half2_rn(values[i][2], values[i][3]);
        __half* to = arguments.half + (row * (last + 1) + chunk) * 4;
        *reinterpret_cast<uint2*>(to) = make_uint2(*reinterpret_cast<const std::uint32_t*>(&low),
                                                   *reinterpret_cast<const std::uint32_t*>(&high));
      } else {
        *reinterpret_cast<float4*>(arguments.x + row * arguments.ld_x + 4 * chunk) =
            make_float4(values[i][0], values[i][1], values[i][2], values[i][3]);
      }
    }
  };
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    if (pair >= pairs) break;
    if constexpr (kTarget != Target::kInt8) load(pair, kept[pair]);
    write(pair, kept[pair]);
  }
  for (int pair = kPairs; pair < pairs; ++pair) {
    float values[2][4];
    load(pair, values);
    write(pair, values);
  }
  if constexpr (kTarget == Target::kInt8) {
    write_scale_and_sum(sum, scale.scale, arguments.to.scale + row, arguments.to.sum + row, shared);
  }
}

template <Target kTarget, int kWidth>
void launch_rows(const RowsKernelArguments& kernel, unsigned rows, CudaStream stream) {
  // Two blocks of 256 fit into a multiprocessor. Where each row has one to itself, more threads
  // have it sooner.
  constexpr unsigned kFewRows = 128;
  if (kernel.head_dim % 4 != 0) {
    launch_early(rows_kernel<kTarget, kWidth, false, 256>, rows, 256, 0, stream, kernel);
  } else if (rows > kFewRows) {
    launch_early(rows_kernel<kTarget, kWidth, true, 256>, rows, 256, 0, stream, kernel);
  } else {
    launch_early(rows_kernel<kTarget, kWidth, true, 512>, rows, 512, 0, stream, kernel);
  }
}

template <Target kTarget>
Status launch(const AttentionRows& arguments, const QuantizedAttention& to, void* half,
              CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  LIQUIDGEMM_RETURN_IF_ERROR(can_attend(tensors.shape, tensors.heads, tensors.head_dim));
  const std::int64_t width = std::int64_t{tensors.heads} * tensors.head_dim;
  if (width % 4 != 0 || tensors.ld_out % 4 != 0 || to.ld_x8 % 4 != 0) {
    return unsupported("attention's rows on the GPU have a multiple of 4 elements, not " +
                       std::to_string(width));
  }
  if (arguments.rows == 0) return ok_status();
  RowsKernelArguments kernel{};
  kernel.x = tensors.out;
  kernel.ld_x = tensors.ld_out;
  if (tensors.shape.element == KvElement::kInt8Static) kernel.v_scale = tensors.v_scale;
  kernel.partials = static_cast<const float*>(arguments.workspace);
  kernel.splits = arguments.splits;
  kernel.kv_heads = tensors.shape.kv_heads;
  kernel.group = tensors.heads / tensors.shape.kv_heads;
  kernel.head_dim = tensors.head_dim;
  kernel.chunks = static_cast<int>(width / 4);
  kernel.to = to;
  kernel.half = static_cast<__half*>(half);
  const auto rows = static_cast<unsigned>(arguments.rows);
  if (tensors.shape.width == 64) {
    launch_rows<kTarget, 64>(kernel, rows, stream);
  } else {
    launch_rows<kTarget, 128>(kernel, rows, stream);
  }
  return launch_status("attention's rows");
}

}  // namespace

Status combine_attention(const AttentionRows& arguments, CudaStream stream) {
  return launch<Target::kFloat>(arguments, {}, nullptr, stream);
}

Status quantize_attention(const AttentionRows& arguments, const QuantizedAttention& to,
                          CudaStream stream) {
  return launch<Target::kInt8>(arguments, to, nullptr, stream);
}

Status halve_attention(const AttentionRows& arguments, void* out, CudaStream stream) {
  return launch<Target::kHalf>(arguments, {}, out, stream);
}

}  // namespace liquidgemm::cuda
