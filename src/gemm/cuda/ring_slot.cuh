// Where one stands in a ring of slots in shared memory, each with barriers whose phases alternate.
#pragma once

#include <cstdint>

namespace liquidgemm::cuda {

struct RingSlot {
  int slot = 0;
  std::uint32_t parity = 0;  // of the phase to wait for; who waits for empty slots begins with 1
  __device__ __forceinline__ void advance(int by, int slots) {
    slot += by;
    if (slot >= slots) {
      slot -= slots;
      parity ^= 1;
    }
  }
};

}  // namespace liquidgemm::cuda
