// Some rows of one or two matrices, side by side: those whose logits are wanted.
#include <cuda_runtime.h>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/row_checks.h"
#include "ops/cuda/rows.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 4;  // of a thread

__global__ __launch_bounds__(kThreads) void gather_kernel(GatherArguments arguments) {
  begin_early_launch();
  const std::int64_t to = blockIdx.x;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kColumns;
  if (column >= arguments.width) return;
  const std::int64_t from = arguments.index[to];
  const auto copy = [&](const GatherMatrix& matrix) {
    *reinterpret_cast<float4*>(matrix.to + to * matrix.ld_to + column) =
        *reinterpret_cast<const float4*>(matrix.from + from * matrix.ld_from + column);
  };
  copy(arguments.first);
  if (arguments.second.from != nullptr) copy(arguments.second);
}

}  // namespace

Status gather_rows(const GatherArguments& arguments, CudaStream stream) {
  const RowChecks check("gather_rows");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("rows", arguments.rows));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("the width", arguments.width, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the index", arguments.index));
  const auto check_matrix = [&](const GatherMatrix& matrix) {
    LIQUIDGEMM_RETURN_IF_ERROR(
        check.matrix("a source", matrix.from, matrix.ld_from, arguments.width, 4, 16));
    return check.matrix("an output", matrix.to, matrix.ld_to, arguments.width, 4, 16);
  };
  LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(arguments.first));
  if (arguments.second.from != nullptr) LIQUIDGEMM_RETURN_IF_ERROR(check_matrix(arguments.second));
  const dim3 grid(static_cast<unsigned>(arguments.rows),
                  blocks_for(arguments.width, kThreads * kColumns));
  launch_early(gather_kernel, grid, kThreads, 0, stream, arguments);
  return launch_status("gather_rows");
}

}  // namespace liquidgemm::cuda
