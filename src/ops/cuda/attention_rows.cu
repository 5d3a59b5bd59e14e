// A row by a cluster of thread blocks, more of them the fewer rows there are. A thread takes chunks
// of four neighbouring dimensions of a head, padded to the width of the pages: chunk c of the row
// belongs to thread c mod threads. So a warp has one whole head, or two. Its splits are combined
// kLanes at a time: what each is worth is computed by as many neighbouring lanes, one for each, and
// then used by all of the head's dimensions. What becomes INT8 is kept in shared memory until the
// row's largest magnitude is known. All loops over chunks are short: the code of an unrolled one
// takes longer to arrive than a row takes (docs/gpu.md).
#include "ops/cuda/attention_rows.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/barrier.h"
#include "gemm/cuda/quantize_row.cuh"
#include "ops/cuda/attention_state.cuh"
#include "ops/cuda/decode_partial.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kLanes = 8;             // splits that are looked at together
constexpr int kMostWidth = 48 << 10;  // of a padded row

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
  QuantizedAttention to;
  __half* half;
};

// A row's values. kWhole: no chunk crosses the end of a head.
// kAhead: splits whose results are read at once.
template <int kWidth, bool kWhole, int kAhead>
class AttentionRow {
 public:
  __device__ __forceinline__ AttentionRow(const RowsKernelArguments& arguments, std::int64_t row)
      : arguments_(arguments),
        x_(arguments.x + row * arguments.ld_x),
        splits_(arguments.splits[row]) {}

  __device__ __forceinline__ bool is_split() const { return splits_.splits > 1; }

  // Four dimensions from `d` on of a head; zeros behind its end. All lanes of a warp together.
  __device__ __forceinline__ void load(int head, int d, float (&values)[4]) const {
    if (is_split()) {
      combine(head, d, values);
    } else if (kWhole && d < arguments_.head_dim) {
      const float4 four = *reinterpret_cast<const float4*>(x_ + head * arguments_.head_dim + d);
      values[0] = four.x;
      values[1] = four.y;
      values[2] = four.z;
      values[3] = four.w;
    } else {
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        const bool real = d + i < arguments_.head_dim;
        const float value = real ? x_[head * arguments_.head_dim + d + i] : 0.0f;
#pragma unroll
        for (int k = 0; k < 4; ++k) values[k] = k == i ? value : values[k];
      }
    }
  }

 private:
  // Of splits begin, begin + 1, ... below `count`.
  static __device__ __forceinline__ void load_outputs(const float* first, std::int64_t next,
                                                      int begin, int count,
                                                      float4 (&outputs)[kAhead]) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const float* from = first + min(begin + i, count - 1) * next;
      outputs[i] = __ldcg(reinterpret_cast<const float4*>(from));
    }
  }

  __device__ __forceinline__ void combine(int head, int d, float (&values)[4]) const {
    const int kv_head = head / arguments_.group, of_group = head - kv_head * arguments_.group;
    const int lane = static_cast<int>(threadIdx.x % kLanes);
    const std::int64_t floats = std::int64_t{4} * decode_partial_size(kWidth, arguments_.group);
    const std::int64_t next = arguments_.kv_heads * floats;
    const float* partial = arguments_.partials + splits_.first_partial * next + kv_head * floats;
    const int place = of_group * kWidth + 4 * decode_partial_place(kWidth, d / 4);
    const int sums = arguments_.group * kWidth + 2 * of_group;
    float m = 0.0f, l = 0.0f;
    // Nothing is before the first split: -0 x 0 + o x 1 is o, whatever it is.
#pragma unroll
    for (int k = 0; k < 4; ++k) values[k] = -0.0f;
#pragma unroll 1
    for (int first = 0; first < splits_.splits; first += kLanes) {
      const int count = min(splits_.splits - first, kLanes);
      float4 outputs[kAhead];
      load_outputs(partial + place, next, 0, count, outputs);
      const float2 own =
          __ldcg(reinterpret_cast<const float2*>(partial + min(lane, count - 1) * next + sums));
      // The largest up to this lane's split, and up to the one before.
      float largest = first > 0 ? fmaxf(m, own.x) : own.x;
#pragma unroll
      for (int apart = 1; apart < kLanes; apart *= 2) {
        const float other = __shfl_up_sync(kWholeWarp, largest, apart, kLanes);
        if (lane >= apart) largest = fmaxf(largest, other);
      }
      float before = __shfl_up_sync(kWholeWarp, largest, 1, kLanes);
      if (lane == 0) before = m;
      const float y = exp_of_difference(own.x - largest);
      const float x = first + lane == 0 ? 0.0f : exp_of_difference(before - largest);
      const float weight = own.y * y;
#pragma unroll 1
      for (int begin = 0; begin < count; begin += kAhead) {
        if (begin > 0) load_outputs(partial + place, next, begin, count, outputs);
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          if (begin + i >= count) break;
          const float of_before = __shfl_sync(kWholeWarp, x, begin + i, kLanes);
          const float of_split = __shfl_sync(kWholeWarp, y, begin + i, kLanes);
          l = l * of_before + __shfl_sync(kWholeWarp, weight, begin + i, kLanes);
          const auto& o = reinterpret_cast<const float(&)[4]>(outputs[i]);
#pragma unroll
          for (int k = 0; k < 4; ++k) values[k] = values[k] * of_before + o[k] * of_split;
        }
      }
      m = __shfl_sync(kWholeWarp, largest, count - 1, kLanes);
      partial += kLanes * next;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      values[k] = values[k] / l;
      if (d + k >= arguments_.head_dim) {
        values[k] = 0.0f;
      } else if (arguments_.v_scale != nullptr) {
        values[k] = values[k] * arguments_.v_scale[kv_head * arguments_.head_dim + d + k];
      }
    }
  }

  const RowsKernelArguments& arguments_;
  const float* x_;
  const RowSplits splits_;
};

// Writes a chunk of a row: one vector where kWhole, or element by element.
template <bool kWhole, typename Vector, typename Element>
__device__ __forceinline__ void store_chunk(Element* row, int element, int count,
                                            const Vector& vector) {
  static_assert(sizeof(Vector) == 4 * sizeof(Element));
  if constexpr (kWhole) {
    if (count > 0) *reinterpret_cast<Vector*>(row + element) = vector;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < count) row[element + i] = reinterpret_cast<const Element*>(&vector)[i];
    }
  }
}

template <Target kTarget, int kWidth, bool kWhole, int kThreads, int kBlocks>
__global__ __launch_bounds__(kThreads, kBlocks == 1 ? 2 : 1) void rows_kernel(
    const __grid_constant__ RowsKernelArguments arguments) {
  // Other blocks' shared memory may be written once they have started.
  if constexpr (kBlocks > 1) ptx::cluster_arrive();
  ptx::launch_dependents();
  extern __shared__ float4 kept[];  // INT8: [i][thread] of the thread's i-th chunk
  __shared__ ClusterReduction<kThreads, kBlocks> shared;
  const std::int64_t row = blockIdx.x / kBlocks;
  const int rank = static_cast<int>(blockIdx.x % kBlocks);
  // Two blocks fit into a multiprocessor where each row has one.
  constexpr int kAhead = kBlocks == 1 ? 6 : kLanes;
  const AttentionRow<kWidth, kWhole, kAhead> from(arguments, row);
  // Calls body(head, dimension of the head, place) for every chunk of this thread. Warps stay
  // whole: what is behind the last head is behind that head's last dimension.
  const auto for_chunks = [&](const auto& body) {
    constexpr int kOfHead = kWidth / 4;
    const int heads = arguments.kv_heads * arguments.group;
    int place = static_cast<int>(threadIdx.x);
#pragma unroll 1
    for (int chunk = rank * kThreads + place; chunk / 32 * 32 < heads * kOfHead;
         chunk += kThreads * kBlocks) {
      const int head = chunk / kOfHead;
      body(min(head, heads - 1), head < heads ? chunk % kOfHead * 4 : kWidth, place);
      place += kThreads;
    }
  };
  ptx::wait_for_previous_kernel();
  // Then the row is there already.
  if (kTarget == Target::kFloat && !from.is_split()) return;

  std::uint32_t largest = 0;
  for_chunks([&](int head, int d, int place) {
    float values[4];
    from.load(head, d, values);
    const int element = head * arguments.head_dim + d, left = arguments.head_dim - d;
    const float4 four = make_float4(values[0], values[1], values[2], values[3]);
    if constexpr (kTarget == Target::kInt8) {
#pragma unroll
      for (const float value : values) largest = max(largest, magnitude_bits(value));
      kept[place] = four;
    } else if constexpr (kTarget == Target::kHalf) {
      const std::int64_t width =
          std::int64_t{arguments.kv_heads} * arguments.group * arguments.head_dim;
      const __half2 halves[2] = {__floats2half2_rn(four.x, four.y),
                                 __floats2half2_rn(four.z, four.w)};
      store_chunk<kWhole>(arguments.half + row * width, element, left,
                          reinterpret_cast<const uint2&>(halves));
    } else {
      store_chunk<kWhole>(arguments.x + row * arguments.ld_x, element, left, four);
    }
  });
  if constexpr (kTarget == Target::kInt8) {
    if constexpr (kBlocks > 1) ptx::cluster_wait();
    const numerics::RowScale scale = row_scale_of_bits(largest_of_cluster(largest, shared, rank));
    std::int32_t sum = 0;
    for_chunks([&](int head, int d, int place) {
      const float4 four = kept[place];
      const std::uint32_t word =
          quantize_four({four.x, four.y, four.z, four.w}, scale.reciprocal, sum);
      store_chunk<kWhole>(arguments.to.x8 + row * arguments.to.ld_x8, head * arguments.head_dim + d,
                          arguments.head_dim - d, word);
    });
    write_scale_and_sum(sum, scale.scale, arguments.to.scale + row, arguments.to.sum + row, shared,
                        rank);
  }
}

template <Target kTarget, int kWidth, bool kWhole, int kThreads, int kBlocks>
Status launch_rows(const RowsKernelArguments& kernel, unsigned rows, CudaStream stream) {
  constexpr auto kKernel = rows_kernel<kTarget, kWidth, kWhole, kThreads, kBlocks>;
  constexpr int kAtOnce = kThreads * kBlocks;
  const auto bytes = [](int chunks) {
    return kTarget == Target::kInt8 ? (chunks + kAtOnce - 1) / kAtOnce * kThreads * 16 : 0;
  };
  // Once; remembers a failure too.
  static const Status opted_in =
      cuda_status(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       bytes(kMostWidth / 4)),
                  "cudaFuncSetAttribute(attention's rows)");
  LIQUIDGEMM_RETURN_IF_ERROR(opted_in);
  const int chunks = kernel.kv_heads * kernel.group * (kWidth / 4);
  launch_early_clusters(kKernel, rows * kBlocks, kThreads, kBlocks,
                        static_cast<std::size_t>(bytes(chunks)), stream, kernel);
  return launch_status("attention's rows");
}

template <Target kTarget, int kWidth>
Status launch_rows(const RowsKernelArguments& kernel, unsigned rows, CudaStream stream) {
  if (kernel.head_dim % 4 != 0) {
    return launch_rows<kTarget, kWidth, false, 512, 1>(kernel, rows, stream);
  }
  if constexpr (kTarget == Target::kInt8) {
    // Where few rows leave multiprocessors without one, several share a row that is not short.
    const bool is_long = kernel.kv_heads * kernel.group * kWidth > 2048;
    if (is_long && rows <= 8) {
      return launch_rows<kTarget, kWidth, true, 128, 8>(kernel, rows, stream);
    }
    if (is_long && rows <= 64) {
      return launch_rows<kTarget, kWidth, true, 512, 2>(kernel, rows, stream);
    }
  }
  return launch_rows<kTarget, kWidth, true, 512, 1>(kernel, rows, stream);
}

template <Target kTarget>
Status launch(const AttentionRows& arguments, const QuantizedAttention& to, void* half,
              CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  LIQUIDGEMM_RETURN_IF_ERROR(can_attend(tensors.shape, tensors.heads, tensors.head_dim));
  LIQUIDGEMM_RETURN_IF_ERROR(can_finish_attention(tensors.heads, tensors.head_dim));
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
  kernel.to = to;
  kernel.half = static_cast<__half*>(half);
  const auto rows = static_cast<unsigned>(arguments.rows);
  if (tensors.shape.width == 64) return launch_rows<kTarget, 64>(kernel, rows, stream);
  return launch_rows<kTarget, 128>(kernel, rows, stream);
}

}  // namespace

Status can_finish_attention(int heads, int head_dim) {
  const std::int64_t width = std::int64_t{heads} * head_dim;
  if (width >= 4 && width % 4 == 0 && std::int64_t{heads} * kv_width(head_dim) <= kMostWidth) {
    return ok_status();
  }
  return unsupported("attention's rows on the GPU have a multiple of 4 elements, up to " +
                     std::to_string(kMostWidth) + " with every head padded to 64 or 128, not " +
                     std::to_string(heads) + " heads of " + std::to_string(head_dim));
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
