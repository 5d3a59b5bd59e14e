// What log-probabilities are made from: a row's largest logit, the sum of exp(x - max) and the
// largest few logits. A cluster takes one row after another into its shared memory.
#include <cuda_runtime.h>

#include "gemm/cuda/cuda_status.h"
#include "ops/cuda/row_cut.cuh"
#include "ops/cuda/sampling_kernels.h"

namespace liquidgemm::cuda {
namespace {

static_assert(kMaxLogprobs <= 32, "one warp orders the largest");

struct Largest {
  float logit[32];
  std::int32_t token[32];
};

// exp(x - max); also of -inf, which weighs next to nothing but not nothing, as on the CPU.
struct ScoreWeight {
  float max;
  __device__ float operator()(float x) const { return numerics::exp_contract(x - max); }
};

// The number of positive infinities, the same in every block.
struct InfinityWeight {
  __device__ float operator()(float x) const { return x == INFINITY ? 1.0f : 0.0f; }
};

// The `top` largest to `out`, descending, ties by ascending id.
__device__ void write_largest(RowCluster& row, int top, int vocabulary, Largest& largest,
                              CudaRowScore& out) {
  if (top < vocabulary) RowCutter<CountWeight>(row, CountWeight{}).keep(static_cast<double>(top));
  row.filter([](bool, float x) { return x > -INFINITY; });
  row.publish();
  Largest* const gathered = row.remote(&largest, 0);
  row.for_each([&](float x, int token, int position) {
    gathered->logit[position] = x;
    gathered->token[position] = token;
  });
  row.barrier();
  if (row.rank() != 0 || row.warp() != 0) return;
  const int count = row.size();
  const bool present = row.lane() < count;
  const float own = present ? largest.logit[row.lane()] : 0.0f;
  int place = 0;
  for (int i = 0; i < count; ++i) {
    const float other = largest.logit[i];
    place += other > own || (other == own && i < row.lane()) ? 1 : 0;
  }
  if (present) out.top[place] = {largest.token[row.lane()], own};
  if (row.lane() == 0) out.count = count;
}

__device__ void score_row(const CudaScoreArguments& arguments, int index, RowCluster& row,
                          Largest& largest) {
  const CudaScore score = arguments.scores[index];
  CudaRowScore& out = arguments.out[index];
  const bool writes = row.rank() == 0 && threadIdx.x == 0;
  const bool known = score.logits_row >= 0 && score.logits_row < arguments.rows;
  const float* const logits = arguments.logits + (known ? score.logits_row * arguments.ld : 0);
  if (writes) {
    const bool drawn = score.token < 0 && score.sample >= 0 && score.sample < arguments.samples;
    const int token = drawn ? arguments.sampled[score.sample].token : score.token;
    const bool exists = known && token >= 0 && token < arguments.vocabulary;
    out.logit = exists ? __ldg(logits + token) : NAN;
    out.max = NAN;
    out.total = 0.0;
    out.count = 0;
  }
  if (!known) return;
  row.fill([&](int token) { return __ldg(logits + token); }, [](float x) { return x; });
  const RowScan scan = row.scan();
  const float max = scan.max();
  if ((scan.flags & RowScan::kNan) != 0 || max == -INFINITY) return;
  const double total = max == INFINITY ? row.total(InfinityWeight{}) : row.total(ScoreWeight{max});
  if (writes) {
    out.max = max;
    out.total = total;
  }
  const int top = min(score.top, kMaxLogprobs);
  if (top > 0) write_largest(row, top, arguments.vocabulary, largest, out);
}

__global__ __cluster_dims__(kClusterBlocks, 1, 1)
    __launch_bounds__(kRowThreads,
                      2) void score_kernel(CudaScoreArguments arguments,
                                           const __grid_constant__ RowGeometry geometry) {
  __shared__ RowShared shared;
  __shared__ Largest largest;
  extern __shared__ float memory[];
  int count = arguments.max_count;
  if (arguments.count != nullptr) count = min(count, *arguments.count);
  if (count <= 0) return;
  RowCluster row(geometry, shared, memory);
  row.barrier();  // all blocks have begun
  const int clusters = static_cast<int>(gridDim.x) / kClusterBlocks;
  for (int i = static_cast<int>(blockIdx.x) / kClusterBlocks; i < count; i += clusters) {
    score_row(arguments, i, row, largest);
    row.barrier();  // before the shared memory takes the next row, or ends
  }
}

}  // namespace

Status prepare_score() {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaFuncSetAttribute(score_kernel,
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       RowGeometry(kMaxCudaVocabulary).bytes()));
  return ok_status();
}

void launch_score(const CudaScoreArguments& arguments, CudaStream stream) {
  const RowGeometry geometry(arguments.vocabulary);
  const int clusters = arguments.max_count < kRowClusters ? arguments.max_count : kRowClusters;
  score_kernel<<<static_cast<unsigned>(clusters * kClusterBlocks), kRowThreads,
                 static_cast<std::size_t>(geometry.bytes()), stream>>>(arguments, geometry);
}

}  // namespace liquidgemm::cuda
