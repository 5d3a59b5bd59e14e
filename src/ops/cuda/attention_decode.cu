// Decode attention: the call. The kernel is in decode_kernel.cuh.
#include <cuda_runtime.h>

#include <cstdint>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/attention_arguments.h"
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {
namespace {

Result<DecodeLaunch> decode_launch(KvElement element, int width, int group, int team) {
  switch (element) {
    case KvElement::kF16: return decode_launch_f16(width, group, team);
    case KvElement::kBf16: return decode_launch_bf16(width, group, team);
    case KvElement::kInt8: return decode_launch_int8(width, group, team);
    case KvElement::kInt8Static: return decode_launch_int8_static(width, group, team);
    case KvElement::kInt4: break;
  }
  return decode_launch_int4(width, group, team);
}

// Few units are computed sooner by more warps each. Many keep all warps busy anyway, and then what
// a team spends on its exchange is lost; but of int8, of which a warp alone is busiest with
// waiting, it is less than what large teams gain where there are just sequences enough to take some
// as one unit each.
int best_team(const KvPageShape& shape, int sequences) {
  const auto rows = std::int64_t{sequences} * shape.kv_heads;
  if (rows < 64) return 4;
  if (kv_is_int8(shape.element)) return rows < 384 ? 2 : rows < 1024 ? 4 : 1;
  return rows < 256 ? 2 : 1;
}

Result<DecodeLaunch> decode_launch(const KvPageShape& shape, int heads, int sequences, int team) {
  return decode_launch(shape.element, shape.width, heads / shape.kv_heads,
                       team != 0 ? team : best_team(shape, sequences));
}

}  // namespace

int decode_teams(const KvPageShape& shape, int heads, int sequences, int multiprocessors,
                 int team) {
  const Result<DecodeLaunch> launch = decode_launch(shape, heads, sequences, team);
  return launch.ok() && launch->keeps ? launch->teams * multiprocessors : 0;
}

std::size_t decode_attention_workspace_bytes(const KvPageShape& shape, int heads, int max_units) {
  const auto partials =
      static_cast<std::size_t>(max_units) * static_cast<std::size_t>(shape.kv_heads) *
      static_cast<std::size_t>(decode_partial_size(shape.width, heads / shape.kv_heads));
  return partials * sizeof(float4);
}

Status decode_attention(const DecodeAttention& arguments, CudaStream stream) {
  const AttentionTensors& tensors = arguments.tensors;
  const KvPageShape& shape = tensors.shape;
  LIQUIDGEMM_RETURN_IF_ERROR(check_tensors(tensors));
  if (arguments.max_units == 0) return ok_status();
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const DecodeLaunch launch,
      decode_launch(shape, tensors.heads, arguments.sequences, arguments.team));
  DecodeKernelArguments kernel{};
  set_tensors(tensors, kernel);
  kernel.lengths = arguments.lengths;
  kernel.rows = arguments.rows;
  kernel.units = arguments.units;
  kernel.unit_count = arguments.unit_count;
  kernel.units_taken = arguments.units_taken;
  kernel.partials = static_cast<float4*>(arguments.workspace);
  kernel.max_units = arguments.max_units;
  kernel.places = launch.places;
  launch_early(launch.kernel, dim3(static_cast<unsigned>(arguments.multiprocessors)),
               static_cast<unsigned>(launch.threads), kDecodeSharedBytes, stream, kernel);
  return launch_status("decode attention");
}

}  // namespace liquidgemm::cuda
