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
// a team spends on its exchange is lost; but of int8, whose pages leave each warp alone no place to
// load ahead into, a team of two hides the loads better.
int best_team(const KvPageShape& shape, int sequences) {
  const auto rows = std::int64_t{sequences} * shape.kv_heads;
  if (rows < 64) return 4;
  return rows < 256 || kv_is_int8(shape.element) ? 2 : 1;
}

}  // namespace

int decode_teams(const KvPageShape& shape, int heads, int sequences, int multiprocessors) {
  const Result<DecodeLaunch> launch = decode_launch(
      shape.element, shape.width, heads / shape.kv_heads, best_team(shape, sequences));
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
  const int group = tensors.heads / shape.kv_heads;
  const int team = arguments.team != 0 ? arguments.team : best_team(shape, arguments.sequences);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const DecodeLaunch launch,
                              decode_launch(shape.element, shape.width, group, team));
  DecodeKernelArguments kernel{};
  set_tensors(tensors, kernel);
  kernel.lengths = arguments.lengths;
  kernel.rows = arguments.rows;
  kernel.units = arguments.units;
  kernel.unit_count = arguments.unit_count;
  kernel.partials = static_cast<float4*>(arguments.workspace);
  kernel.max_units = arguments.max_units;
  kernel.places = launch.places;
  launch_early(launch.kernel, dim3(static_cast<unsigned>(arguments.multiprocessors)),
               static_cast<unsigned>(launch.threads), kDecodeSharedBytes, stream, kernel);
  return launch_status("decode attention");
}

}  // namespace liquidgemm::cuda
