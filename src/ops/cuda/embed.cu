// The embedding of a step's tokens: rows of an INT8 table, each value times its row's scale.
#include <cuda_runtime.h>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/row_checks.h"
#include "ops/cuda/rows.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 8;  // of a thread

__device__ float4 scaled(std::uint32_t codes, float scale) {
  const auto value = [&](int i) {
    return static_cast<float>(static_cast<std::int8_t>(codes >> (8 * i) & 0xFFu)) * scale;
  };
  return make_float4(value(0), value(1), value(2), value(3));
}

__global__ __launch_bounds__(kThreads) void embed_kernel(EmbedArguments arguments) {
  begin_early_launch();
  const std::int64_t row = blockIdx.x;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kColumns;
  if (column >= arguments.hidden) return;
  const std::int64_t token = arguments.tokens[row];
  uint2 codes = {0, 0};
  float scale = __int_as_float(0x7FC00000);
  if (token >= 0 && token < arguments.vocab) {
    codes = *reinterpret_cast<const uint2*>(arguments.table + token * arguments.ld_table + column);
    scale = arguments.scale[token];
  }
  auto* out = reinterpret_cast<float4*>(arguments.out + row * arguments.ld_out + column);
  out[0] = scaled(codes.x, scale);
  out[1] = scaled(codes.y, scale);
}

}  // namespace

Status embed_rows(const EmbedArguments& arguments, CudaStream stream) {
  const RowChecks check("embed_rows");
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("rows", arguments.rows));
  LIQUIDGEMM_RETURN_IF_ERROR(check.width("the hidden size", arguments.hidden, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(check.matrix("the table", arguments.table, arguments.ld_table,
                                          arguments.hidden, /*element_bytes=*/1, kColumns));
  LIQUIDGEMM_RETURN_IF_ERROR(check.matrix("the output", arguments.out, arguments.ld_out,
                                          arguments.hidden, /*element_bytes=*/4, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the scales", arguments.scale));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the tokens", arguments.tokens));
  const dim3 grid(static_cast<unsigned>(arguments.rows),
                  blocks_for(arguments.hidden, kThreads * kColumns));
  launch_early(embed_kernel, grid, kThreads, 0, stream, arguments);
  return launch_status("embed_rows");
}

}  // namespace liquidgemm::cuda
