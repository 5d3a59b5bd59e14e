// Decode attention over a cache in bf16.
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {

Result<DecodeLaunch> decode_launch_bf16(int width, int group, int team) {
  return decode_launch<KvElement::kBf16>(width, group, team);
}

}  // namespace liquidgemm::cuda
