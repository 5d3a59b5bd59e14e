// Rows in f16 for linear layers with FP16 weights, and for an FP16 head.
#include <cuda_runtime.h>

#include <type_traits>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/fp16_linear.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/norm_lanes.cuh"
#include "gemm/cuda/row_checks.h"
#include "gemm/cuda/row_chunk.cuh"
#include "gemm/cuda/silu_multiply.cuh"
#include "gemm/numerics.h"
#include "ops/cuda/half_rows.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 8;  // of a thread, where rows are cut into columns

using FloatEight = Chunk<CudaFloat::kFloat32, kColumns>;
using HalfEight = Chunk<CudaFloat::kFloat16, kColumns>;
using FloatFour = Chunk<CudaFloat::kFloat32, 4>;
using HalfFour = Chunk<CudaFloat::kFloat16, 4>;

// The chunk of a row that this thread has, in a grid of (rows, column blocks).
__device__ int chunk_of_thread() { return static_cast<int>(blockIdx.y * kThreads + threadIdx.x); }

// ---- Embedding ---------------------------------------------------------------------------------

__global__ __launch_bounds__(kThreads) void embed_kernel(EmbedHalfArguments arguments) {
  begin_early_launch();
  const std::int64_t row = blockIdx.x;
  const int chunk = chunk_of_thread();
  if (chunk >= arguments.hidden / kColumns) return;
  const std::int64_t token = arguments.tokens[row];
  const bool known = token >= 0 && token < arguments.vocab;
  HalfEight eight{};
  if (known) {
    eight.load(static_cast<const std::uint16_t*>(arguments.table) + token * arguments.hidden,
               chunk);
  }
  FloatEight out{};
#pragma unroll
  for (int i = 0; i < kColumns; ++i) out.set(i, known ? eight.get(i) : __int_as_float(0x7FC00000));
  out.store(arguments.out + row * arguments.hidden, chunk);
}

// ---- SiLU(gate) * up ---------------------------------------------------------------------------

__global__ __launch_bounds__(kThreads) void silu_kernel(SiluHalfArguments arguments) {
  begin_early_launch();
  const std::int64_t row = blockIdx.x;
  const int chunk = chunk_of_thread();
  if (chunk >= arguments.k / kColumns) return;
  const auto* gates = static_cast<const std::uint16_t*>(arguments.gate_up) + row * 2 * arguments.k;
  HalfEight gate, up;
  gate.load(gates, chunk);
  up.load(gates + arguments.k, chunk);
  float gate_values[kColumns], up_values[kColumns], products[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    gate_values[i] = gate.get(i);
    up_values[i] = up.get(i);
  }
  silu_multiply(gate_values, up_values, products);
  HalfEight out{};
#pragma unroll
  for (int i = 0; i < kColumns; ++i) out.set(i, products[i]);
  out.store(static_cast<std::uint16_t*>(arguments.out) + row * arguments.k, chunk);
}

// ---- Sum and norm ------------------------------------------------------------------------------

struct AddNormParameters {
  const void* x;
  float* residual;
  std::int64_t m;
  std::int64_t k;
  const float* norm_weight;
  float epsilon;
  void* out;
};

// What is added, and where the result goes.
enum class Norm { kOfResidual, kOfHalfSum, kOfFloatSumInTiles };

// One block a row; a thread keeps its first kKept chunks of four, and if there are more reads those
// again, out of the caches.
template <Norm kNorm, int kKept, bool kMore>
__global__ __launch_bounds__(kNormThreads, 2) void add_norm_kernel(AddNormParameters arguments) {
  constexpr bool kAdds = kNorm != Norm::kOfResidual;
  constexpr bool kTiles = kNorm == Norm::kOfFloatSumInTiles;
  using AddedFour = std::conditional_t<kTiles, FloatFour, HalfFour>;
  begin_early_launch();
  __shared__ NormShared shared;
  const std::int64_t row = blockIdx.x;
  const auto* x = static_cast<const std::uint8_t*>(arguments.x) +
                  (kAdds ? row * arguments.k * (kTiles ? 4 : 2) : 0);
  float* residual = arguments.residual + row * arguments.k;
  // Of a chunk of four.
  const auto place = [&](int chunk) -> std::int64_t {
    if constexpr (kTiles) return 2 * fp16_tile_place(arguments.m, row, chunk / 2) + chunk % 2;
    return row * (arguments.k / 4) + chunk;
  };
  const int chunks = static_cast<int>(arguments.k / 4);
  const int first = first_norm_chunk(threadIdx.x);

  FloatFour kept[kKept];
  const NormLanes lanes = add_to_residual<kMore, AddedFour>(kAdds, x, residual, chunks, kept);
  const float reciprocal = rms_reciprocal_of_row(lanes, static_cast<int>(arguments.k),
                                                 arguments.epsilon, shared, [](unsigned) {});

  const auto normalize = [&](const FloatFour& four, int chunk) {
    FloatFour weight;
    weight.load(arguments.norm_weight, chunk);
    HalfFour normed{};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      normed.set(j, numerics::rms_apply(four.get(j), reciprocal, weight.get(j)));
    }
    normed.store(arguments.out, place(chunk));
  };
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int chunk = first + i * kNormThreads;
    if (chunk < chunks) normalize(kept[i], chunk);
  }
  if constexpr (kMore) {
    // A thread reads back only what it has stored itself.
    for (int chunk = first + kKept * kNormThreads; chunk < chunks; chunk += kNormThreads) {
      FloatFour four;
      four.load(residual, chunk);
      normalize(four, chunk);
    }
  }
  if constexpr (kTiles) {
    const int end = static_cast<int>(fp16_steps(arguments.k)) * (kFp16StepK / 4);
    for (int chunk = chunks + static_cast<int>(threadIdx.x); chunk < end; chunk += kNormThreads) {
      HalfFour{}.store(arguments.out, place(chunk));
    }
  }
}

template <Norm kNorm>
void launch_add_norm(const AddNormParameters& parameters, CudaStream stream) {
  const auto launch = [&](auto kernel) {
    launch_early(kernel, static_cast<unsigned>(parameters.m), kNormThreads, 0, stream, parameters);
  };
  constexpr int kOnce = 4 * kNormThreads;
  if (parameters.k <= 2 * kOnce) {
    launch(add_norm_kernel<kNorm, 2, false>);
  } else if (parameters.k <= 4 * kOnce) {
    launch(add_norm_kernel<kNorm, 4, false>);
  } else {
    launch(add_norm_kernel<kNorm, 4, true>);
  }
}

// ---- Launches ----------------------------------------------------------------------------------

dim3 grid_of(std::int64_t rows, std::int64_t width) {
  return dim3(static_cast<unsigned>(rows), blocks_for(width, kThreads * kColumns));
}

// Rows without gaps.
Status check_matrix(const RowChecks& check, const char* name, const void* data, std::int64_t width,
                    std::int64_t bytes) {
  return check.matrix(name, data, width, width, bytes, 16);
}

// All but x and the output.
Status check_add_norm(const RowChecks& check, const AddNormParameters& parameters) {
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("M", parameters.m));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("K", parameters.k, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(
      check_matrix(check, "the residual", parameters.residual, parameters.k, 4));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the norm's weights", parameters.norm_weight, 16));
  // Not >= 0 for a NaN.
  if (!(parameters.epsilon >= 0.0f)) return check.refused("epsilon is negative or not a number");
  return ok_status();
}

}  // namespace

Status embed_half_rows(const EmbedHalfArguments& arguments, CudaStream stream) {
  const RowChecks check("embed_half_rows");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("M", arguments.m));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("the hidden size", arguments.hidden, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(
      check_matrix(check, "the table", arguments.table, arguments.hidden, 2));
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "the output", arguments.out, arguments.hidden, 4));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the tokens", arguments.tokens));
  launch_early(embed_kernel, grid_of(arguments.m, arguments.hidden), kThreads, 0, stream,
               arguments);
  return launch_status("embed_half_rows");
}

Status add_norm_half_rows(const AddNormHalfArguments& arguments, CudaStream stream) {
  const RowChecks check("add_norm_half_rows");
  if (arguments.x != nullptr) {
    LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "x", arguments.x, arguments.k, 2));
  }
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "the output", arguments.out, arguments.k, 2));
  const AddNormParameters parameters{arguments.x,  arguments.residual,    arguments.m,
                                     arguments.k,  arguments.norm_weight, arguments.epsilon,
                                     arguments.out};
  LIQUIDGEMM_RETURN_IF_ERROR(check_add_norm(check, parameters));
  if (arguments.x != nullptr) {
    launch_add_norm<Norm::kOfHalfSum>(parameters, stream);
  } else {
    launch_add_norm<Norm::kOfResidual>(parameters, stream);
  }
  return launch_status("add_norm_half_rows");
}

Status add_norm_half_tiles(const AddNormHalfTilesArguments& arguments, CudaStream stream) {
  const RowChecks check("add_norm_half_tiles");
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "x", arguments.x, arguments.k, 4));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the output", arguments.out, 16));
  const AddNormParameters parameters{arguments.x,  arguments.residual,    arguments.m,
                                     arguments.k,  arguments.norm_weight, arguments.epsilon,
                                     arguments.out};
  LIQUIDGEMM_RETURN_IF_ERROR(check_add_norm(check, parameters));
  launch_add_norm<Norm::kOfFloatSumInTiles>(parameters, stream);
  return launch_status("add_norm_half_tiles");
}

Status silu_multiply_half_rows(const SiluHalfArguments& arguments, CudaStream stream) {
  const RowChecks check("silu_multiply_half_rows");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("M", arguments.m));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("K", arguments.k, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "gate_up", arguments.gate_up, arguments.k, 2));
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(check, "the output", arguments.out, arguments.k, 2));
  launch_early(silu_kernel, grid_of(arguments.m, arguments.k), kThreads, 0, stream, arguments);
  return launch_status("silu_multiply_half_rows");
}

}  // namespace liquidgemm::cuda
