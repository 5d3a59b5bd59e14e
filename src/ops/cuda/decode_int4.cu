// Decode attention over a cache in int4.
#include "ops/cuda/decode_kernel.cuh"

namespace liquidgemm::cuda {

Result<DecodeLaunch> decode_launch_int4(int width, int group, int team) {
  return decode_launch<KvElement::kInt4>(width, group, team);
}

}  // namespace liquidgemm::cuda
