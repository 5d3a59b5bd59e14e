// One block a row. A thread takes chunks of four neighbouring dimensions: chunk c belongs to thread
// c mod kThreads. What becomes INT8 is kept in shared memory until the row's largest magnitude is
// known. All loops over chunks are short: the code of an unrolled one takes longer to arrive than
// a row takes (docs/gpu.md).
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

constexpr int kAhead = 5;             // splits read at once
constexpr int kMostWidth = 48 << 10;  // of a row, whose floats a block's shared memory holds

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

  // Where the thread's values are in the partial results of the first split.
  struct Place {
    const float* o;
    const float2* sums;
  };
  __device__ __forceinline__ Place place_of(int element) const {
    const int head = element / arguments_.head_dim;
    const int d = element - head * arguments_.head_dim;
    const int kv_head = head / arguments_.group;
    const int of_group = head - kv_head * arguments_.group;
    const float* partial =
        arguments_.partials +
        (std::int64_t{splits_.first_partial} * arguments_.kv_heads + kv_head) * partial_floats();
    return {partial + of_group * kWidth + 4 * decode_partial_place(kWidth, d / 4) + d % 4,
            reinterpret_cast<const float2*>(partial + arguments_.group * kWidth) + of_group};
  }

  // `place`: of the chunk's first element.
  __device__ __forceinline__ void load(int chunk, const Place& place, float (&values)[4]) const {
    if (!is_split()) {
      const float4 four = reinterpret_cast<const float4*>(x_)[chunk];
      values[0] = four.x;
      values[1] = four.y;
      values[2] = four.z;
      values[3] = four.w;
    } else if constexpr (kWhole) {
      combine<float4>(place, values);
      scale(4 * chunk, values);
    } else {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        float one[1];
        combine<float>(place_of(4 * chunk + i), one);
        scale(4 * chunk + i, one);
#pragma unroll
        for (int k = 0; k < 4; ++k) values[k] = k == i ? one[0] : values[k];
      }
    }
  }

 private:
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

  __device__ __forceinline__ std::int64_t partial_floats() const {
    return std::int64_t{4} * decode_partial_size(kWidth, arguments_.group);
  }

  template <typename Vector, int kSize>
  __device__ __forceinline__ void combine(const Place& place, float (&values)[kSize]) const {
    static_assert(sizeof(Vector) == kSize * sizeof(float));
    const std::int64_t next = arguments_.kv_heads * partial_floats();
    float m = 0.0f, l = 0.0f;
#pragma unroll 1
    for (int begin = 0; begin < splits_.splits; begin += kAhead) {
      Vector outputs[kAhead];
      float2 sums[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const std::int64_t from = min(begin + i, splits_.splits - 1) * next;
        outputs[i] = __ldcg(reinterpret_cast<const Vector*>(place.o + from));
        sums[i] = __ldcg(
            reinterpret_cast<const float2*>(reinterpret_cast<const float*>(place.sums) + from));
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (begin + i >= splits_.splits) break;
        const auto& o = reinterpret_cast<const float(&)[kSize]>(outputs[i]);
        if (begin + i == 0) {
          m = sums[0].x;
          l = sums[0].y;
#pragma unroll
          for (int k = 0; k < kSize; ++k) values[k] = o[k];
          continue;
        }
        const float largest = fmaxf(m, sums[i].x);
        const float x = exp_of_difference(m - largest);
        const float y = exp_of_difference(sums[i].x - largest);
        m = largest;
        l = l * x + sums[i].y * y;
#pragma unroll
        for (int k = 0; k < kSize; ++k) values[k] = values[k] * x + o[k] * y;
      }
    }
#pragma unroll
    for (int k = 0; k < kSize; ++k) values[k] = values[k] / l;
  }

  const RowsKernelArguments& arguments_;
  const float* x_;
  const RowSplits splits_;
};

template <Target kTarget, int kWidth, bool kWhole, int kThreads>
__global__ __launch_bounds__(kThreads) void rows_kernel(
    const __grid_constant__ RowsKernelArguments arguments) {
  ptx::launch_dependents();
  extern __shared__ float4 row_values[];  // INT8: [i][thread] of the thread's i-th chunk
  __shared__ Reduction<kThreads> shared;
  const std::int64_t row = blockIdx.x;
  const AttentionRow<kWidth, kWhole> from(arguments, row);
  const int first = static_cast<int>(threadIdx.x);
  auto place = from.place_of(4 * first);
  ptx::wait_for_previous_kernel();
  if (kTarget == Target::kFloat && !from.is_split()) return;

  std::uint32_t largest = 0;
  float4* kept = row_values + threadIdx.x;
#pragma unroll 1
  for (int chunk = first; chunk < arguments.chunks; chunk += kThreads) {
    float values[4];
    from.load(chunk, place, values);
    place = from.place_of(4 * (chunk + kThreads));
    const float4 four = make_float4(values[0], values[1], values[2], values[3]);
    if constexpr (kTarget == Target::kInt8) {
#pragma unroll
      for (const float value : values) largest = max(largest, magnitude_bits(value));
      *kept = four;
      kept += kThreads;
    } else if constexpr (kTarget == Target::kHalf) {
      const __half2 low = __floats2half2_rn(four.x, four.y);
      const __half2 high = __floats2half2_rn(four.z, four.w);
      __half* to = arguments.half + (row * arguments.chunks + chunk) * 4;
      *reinterpret_cast<uint2*>(to) = make_uint2(*reinterpret_cast<const std::uint32_t*>(&low),
                                                 *reinterpret_cast<const std::uint32_t*>(&high));
    } else {
      *reinterpret_cast<float4*>(arguments.x + row * arguments.ld_x + 4 * chunk) = four;
    }
  }
  if constexpr (kTarget == Target::kInt8) {
    const numerics::RowScale scale = row_scale_of(largest, shared);
    std::int32_t sum = 0;
    kept = row_values + threadIdx.x;
    auto* x8 = reinterpret_cast<std::uint32_t*>(arguments.to.x8 + row * arguments.to.ld_x8);
#pragma unroll 1
    for (int chunk = first; chunk < arguments.chunks; chunk += kThreads) {
      const float4 four = *kept;
      x8[chunk] = quantize_four({four.x, four.y, four.z, four.w}, scale.reciprocal, sum);
      kept += kThreads;
    }
    write_scale_and_sum(sum, scale.scale, arguments.to.scale + row, arguments.to.sum + row, shared);
  }
}

template <Target kTarget, int kWidth, bool kWhole, int kThreads>
Status launch_rows(const RowsKernelArguments& kernel, unsigned rows, CudaStream stream) {
  constexpr auto kKernel = rows_kernel<kTarget, kWidth, kWhole, kThreads>;
  constexpr int kMostBytes = kMostWidth * 4;
  // Once; remembers a failure too.
  static const Status opted_in = cuda_status(
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes),
      "cudaFuncSetAttribute(attention's rows)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  const int each = (kernel.chunks + kThreads - 1) / kThreads;
  const std::size_t bytes = kTarget == Target::kInt8 ? each * kThreads * sizeof(float4) : 0;
  launch_early(kKernel, rows, kThreads, bytes, stream, kernel);
  return launch_status("attention's rows");
}

template <Target kTarget, int kWidth>
Status launch_rows(const RowsKernelArguments& kernel, unsigned rows, CudaStream stream) {
  // Where each row has a multiprocessor to itself, more threads have it sooner.
  constexpr unsigned kFewRows = 128;
  if (kernel.head_dim % 4 != 0)
    return launch_rows<kTarget, kWidth, false, 512>(kernel, rows, stream);
  if (rows > kFewRows) return launch_rows<kTarget, kWidth, true, 512>(kernel, rows, stream);
  return launch_rows<kTarget, kWidth, true, 1024>(kernel, rows, stream);
}

template <Target kTarget>
Status launch(const AttentionRows& arguments, const QuantizedAttention& to, void* half,
              CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  LIQUIDGEMM_RETURN_IF_ERROR(can_attend(tensors.shape, tensors.heads, tensors.head_dim));
  const std::int64_t width = std::int64_t{tensors.heads} * tensors.head_dim;
  LIQUIDGEMM_RETURN_IF_ERROR(can_finish_attention(width));
  if (tensors.ld_out % 4 != 0 || to.ld_x8 % 4 != 0) {
    return invalid_argument("attention's rows on the GPU need strides that are multiples of 4");
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
  if (tensors.shape.width == 64) return launch_rows<kTarget, 64>(kernel, rows, stream);
  return launch_rows<kTarget, 128>(kernel, rows, stream);
}

}  // namespace

Status can_finish_attention(std::int64_t width) {
  if (width >= 4 && width % 4 == 0 && width <= kMostWidth) return ok_status();
  return unsupported("attention's rows on the GPU have a multiple of 4 elements, up to " +
                     std::to_string(kMostWidth) + ", not " + std::to_string(width));
}

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
