// Decode attention over a cache in f16.
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {

Result<DecodeLaunch> decode_launch_f16(int width, int group, int team) {
  return decode_launch<KvElement::kF16>(width, group, team);
}

}  // namespace liquidgemm::cuda
