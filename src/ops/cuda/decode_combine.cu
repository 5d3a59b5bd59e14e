// The splits of each sequence to one result, in ascending order (gemm/numerics.h, Attention). A
// thread takes four dimensions of a query head; sequences of one split are finished already.
#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "ops/cuda/attention_arguments.h"
#include "ops/cuda/attention_output.cuh"
#include "ops/cuda/attention_state.cuh"
#include "ops/cuda/decode_combine.h"
#include "ops/cuda/decode_partial.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 5;  // splits read at once

struct CombineKernelArguments {
  AttentionOutput output;
  const float4* partials;
  const std::int32_t* lengths;
  const std::int32_t* rows;
  const std::int32_t* first_units;
  int kv_heads;
  int group;
};

template <int kWidth>
__global__ __launch_bounds__(kThreads) void combine_kernel(CombineKernelArguments arguments) {
  constexpr int kFours = kWidth / 4;
  begin_early_launch();
  const int slot = static_cast<int>(blockIdx.x);
  const int item = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  const int head = item / kFours;  // query head
  const int first_unit = arguments.first_units[slot];
  const int length = arguments.lengths[slot];
  const int row = arguments.rows[slot];
  const int splits = static_cast<int>(attention_splits(length));
  if (first_unit < 0 || splits < 2 || head >= arguments.kv_heads * arguments.group) return;

  const int kv_head = head / arguments.group;
  const int of_group = head % arguments.group;
  const std::int64_t size = decode_partial_size(kWidth, arguments.group);
  const std::int64_t next = arguments.kv_heads * size;
  const float4* first = arguments.partials + first_unit * next + kv_head * size;
  const int place = of_group * kFours + item % kFours;
  float m = 0.0f, l = 0.0f;
  float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
  for (int begin = 0; begin < splits; begin += kAhead) {
    float4 outputs[kAhead];
    float2 sums[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const float4* partial = first + min(begin + i, splits - 1) * next;
      outputs[i] = __ldcg(partial + place);
      sums[i] = __ldcg(reinterpret_cast<const float2*>(partial + arguments.group * kFours) +
                       of_group);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i >= splits) break;
      if (begin + i == 0) {
        o = outputs[0];
        m = sums[0].x;
        l = sums[0].y;
        continue;
      }
      const float largest = fmaxf(m, sums[i].x);
      const float x = exp_of_difference(m - largest);
      const float y = exp_of_difference(sums[i].x - largest);
      m = largest;
      l = l * x + sums[i].y * y;
      o.x = o.x * x + outputs[i].x * y;
      o.y = o.y * x + outputs[i].y * y;
      o.z = o.z * x + outputs[i].z * y;
      o.w = o.w * x + outputs[i].w * y;
    }
  }
  arguments.output.write(row, head, item % kFours * 4, o, l);
}

}  // namespace

Status combine_splits(const DecodeAttention& arguments, const void* partials, int sequences,
                      CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  CombineKernelArguments kernel{};
  kernel.output = attention_output(tensors);
  kernel.partials = static_cast<const float4*>(partials);
  kernel.lengths = arguments.lengths;
  kernel.rows = arguments.rows;
  kernel.first_units = arguments.first_units;
  kernel.kv_heads = tensors.shape.kv_heads;
  kernel.group = tensors.heads / tensors.shape.kv_heads;
  const int items = tensors.heads * (tensors.shape.width / 4);
  const dim3 grid(static_cast<unsigned>(sequences),
                  static_cast<unsigned>((items + kThreads - 1) / kThreads));
  launch_early(tensors.shape.width == 64 ? combine_kernel<64> : combine_kernel<128>, grid, kThreads,
               0, stream, kernel);
  return launch_status("decode attention's splits");
}

}  // namespace liquidgemm::cuda
