// Decode attention over a cache in int8 with a scale a channel.
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {

Result<DecodeLaunch> decode_launch_int8_static(int width, int group, int team) {
  return decode_launch<KvElement::kInt8Static>(width, group, team);
}

}  // namespace liquidgemm::cuda
