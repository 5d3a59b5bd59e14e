// The samples that the first look at their rows did not settle: logits changed, or a token drawn.
// A cluster takes one row after another into its shared memory (row_cluster.cuh).
#include <cuda_runtime.h>

#include "gemm/cuda/cuda_status.h"
#include "ops/cuda/row_cut.cuh"
#include "ops/cuda/sampling_kernels.h"
#include "ops/philox.h"

namespace liquidgemm::cuda {
namespace {

// Of y, or weights that have been made already.
struct DrawWeight {
  SoftmaxWeight weight;
  bool made;
  __device__ float operator()(float value) const { return made ? value : weight(value); }
};

__device__ bool is_finite(float x) { return fabsf(x) <= FLT_MAX; }

__device__ float finite(float x) {
  if (x > FLT_MAX) return FLT_MAX;
  if (x < -FLT_MAX) return -FLT_MAX;
  return x;
}

// A list may name a token more than once; then its biases are added in the list's order. So each
// warp reads the whole list and changes the tokens of its own run.
__device__ void apply_bias(const RowCluster& row, const TokenBias* biases, int count) {
  for (int begin = 0; begin < count; begin += 32) {
    int at = -1;
    float bias = 0.0f;
    if (begin + row.lane() < count) {
      const TokenBias entry = biases[begin + row.lane()];
      const std::int64_t local = static_cast<std::int64_t>(entry.token) - row.first_token();
      if (local >= 0 && local < row.length()) at = static_cast<int>(local);
      bias = entry.bias;
    }
    std::uint32_t waiting = __ballot_sync(kAllLanes, at >= 0);
    if (waiting == 0) continue;
    const std::uint32_t same = __match_any_sync(kAllLanes, at);
    while (waiting != 0) {
      const bool turn =
          (waiting >> row.lane() & 1u) != 0 && (same & waiting & row.lanes_below()) == 0;
      if (turn) {
        float& value = row.list()[at];
        if (bias == -INFINITY) {
          value = -INFINITY;
        } else if (is_finite(value)) {
          value = finite(value + bias);
        }
      }
      waiting &= ~__ballot_sync(kAllLanes, turn);
      __syncwarp();
    }
  }
  __syncthreads();
}

// Each token stands in the list once.
__device__ void apply_penalties(const RowCluster& row, const CudaSample& sample,
                                const TokenCount* counts) {
  const float repetition = sample.repetition_penalty;
  const float frequency = sample.frequency_penalty;
  const float presence = sample.presence_penalty;
  for (int i = static_cast<int>(threadIdx.x); i < sample.counts_count; i += kRowThreads) {
    const TokenCount count = counts[i];
    float* const slot = row.slot(count.token);
    if (slot == nullptr || !is_finite(*slot)) continue;
    float value = *slot;
    if (count.in_prompt || count.in_answer > 0) {
      value = value > 0.0f ? value / repetition : value * repetition;
    }
    if (count.in_answer > 0) {
      value -= frequency * static_cast<float>(count.in_answer);
      value -= presence;
    }
    *slot = finite(value);
  }
  __syncthreads();
}

// uniform_at() of ops/sampling.cc, in the middle of its step.
__device__ double uniform(const CudaSample& sample) {
  const PhiloxBlock counter = {{static_cast<std::uint32_t>(sample.position),
                                static_cast<std::uint32_t>(sample.position >> 32), 0, 0}};
  const PhiloxBlock random = philox4x32_10(counter, static_cast<std::uint32_t>(sample.seed),
                                           static_cast<std::uint32_t>(sample.seed >> 32));
  const float first = static_cast<float>(random.word[0] >> 8) * 0x1p-24f;
  return static_cast<double>(first) + 0x1p-25;
}

__device__ void sample_row(const CudaSampleArguments& arguments, const DrawItem& item,
                           RowCluster& row) {
  const CudaSample& sample = arguments.samples[item.sample];
  const float* const logits = arguments.logits + sample.logits_row * arguments.ld;
  const auto emit = [&](int token) {
    arguments.sampled[item.sample] = {token, token < 0 ? 0.0f : __ldg(logits + token)};
  };
  const bool top_k = sample.top_k > 0 && sample.top_k < arguments.vocabulary;
  const bool top_p = sample.top_p < 1.0f;

  // Subtracting the maximum before dividing keeps a small temperature from overflowing. Without a
  // cut to come, the weights themselves are kept.
  float max = item.max;
  const float temperature = sample.temperature;
  const SoftmaxWeight weight = {sample.min_p};
  const auto soften = [&](float x) {
    const float y = max == INFINITY ? (x == INFINITY ? 0.0f : -INFINITY) : (x - max) / temperature;
    return top_k || top_p ? y : weight(y);
  };

  const bool penalised = sample.counts_count > 0 &&
                         (sample.repetition_penalty != 1.0f || sample.presence_penalty != 0.0f ||
                          sample.frequency_penalty != 0.0f);
  const int mask_words = sample.mask_words;
  const bool masked = mask_words > 0;
  if (penalised || masked || sample.bias_count > 0) {
    const std::uint32_t* const mask = arguments.masks + sample.mask_begin;
    // Whatever a bias does to a token that may not be drawn, it stays -inf, so this may come first.
    const auto load = [&](int token) {
      if (masked) {
        const std::uint32_t word = token / 32 < mask_words ? __ldg(mask + token / 32) : 0u;
        if ((word >> (token % 32) & 1u) == 0) return -INFINITY;
      }
      return __ldg(logits + token);
    };
    row.fill(load, [](float x) { return x; });
    if (sample.bias_count > 0) {
      apply_bias(row, arguments.biases + sample.bias_begin, sample.bias_count);
    }
    if (penalised) apply_penalties(row, sample, arguments.counts + sample.counts_begin);
    const RowScan scan = row.scan();
    if (!scan.usable() || temperature == 0.0f) {
      if (row.rank() == 0 && threadIdx.x == 0) {
        emit(scan.usable() ? static_cast<int>(scan.token) : -1);
      }
      return;
    }
    max = scan.max();
    row.transform(soften);
  } else {
    row.fill([&](int token) { return __ldg(logits + token); }, soften);
  }

  if (top_k) {
    RowCutter<CountWeight>(row, CountWeight{}).keep(static_cast<double>(sample.top_k));
    row.publish();
  }
  // For top-p's cut, then for the draw from what it leaves: one copy of the code.
  DrawWeight drawn = {top_p ? SoftmaxWeight{} : weight, !top_k && !top_p};
  double total;
#pragma unroll 1
  for (bool cut = top_p;; cut = false) {
    total = row.total(drawn);
    if (!cut) break;
    RowCutter<SoftmaxWeight>(row, SoftmaxWeight{}).keep(static_cast<double>(sample.top_p) * total);
    row.publish();
    drawn.weight = weight;
  }
  row.draw(uniform(sample) * total, drawn, emit);
}

__global__ __cluster_dims__(kClusterBlocks, 1, 1)
    __launch_bounds__(kRowThreads,
                      2) void draw_kernel(CudaSampleArguments arguments, SampleWorkspace workspace,
                                          const __grid_constant__ RowGeometry geometry) {
  __shared__ RowShared shared;
  extern __shared__ float memory[];
  // The same for every block: it changes when all clusters have finished.
  const std::uint32_t listed = workspace.header->listed;
  if (listed == 0) return;
  RowCluster row(geometry, shared, memory);
  row.barrier();  // all blocks have begun, and know `listed`
  const std::uint32_t clusters = gridDim.x / kClusterBlocks;
  for (std::uint32_t i = blockIdx.x / kClusterBlocks; i < listed; i += clusters) {
    sample_row(arguments, workspace.records[i].item, row);
    row.barrier();  // before the shared memory takes the next row, or ends
  }
  if (row.rank() != 0 || threadIdx.x != 0) return;
  if (atomicAdd(&workspace.header->finished, 1u) + 1 != clusters) return;
  workspace.header->listed = 0;
  workspace.header->finished = 0;
}

}  // namespace

Status prepare_draw() {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaFuncSetAttribute(draw_kernel,
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       RowGeometry(kMaxCudaVocabulary).bytes()));
  return ok_status();
}

void launch_draw(const CudaSampleArguments& arguments, const SampleWorkspace& workspace,
                 CudaStream stream) {
  const RowGeometry geometry(arguments.vocabulary);
  const int clusters = arguments.max_count < kRowClusters ? arguments.max_count : kRowClusters;
  draw_kernel<<<static_cast<unsigned>(clusters * kClusterBlocks), kRowThreads,
                static_cast<std::size_t>(geometry.bytes()), stream>>>(arguments, workspace,
                                                                      geometry);
}

}  // namespace liquidgemm::cuda
