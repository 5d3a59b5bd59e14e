// Decode attention over a cache in int8.
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {

Result<DecodeLaunch> decode_launch_int8(int width, int group, int team) {
  return decode_launch<KvElement::kInt8>(width, group, team);
}

}  // namespace liquidgemm::cuda
