// The ways of turning codes into weights (unpack.h), by name for the host.
#pragma once

namespace liquidgemm::cuda {

// All read the same packed weights and give the same product. The kernels that serve are unsigned;
// the others are there to be measured against it (`liquid bench gemm --ablate`).
enum class Unpack {
  kUnsigned,  // q * s + a: 128 above the weight
  kXor,       // (q * s + a) ^ 0x80: the weight as a signed byte, as in the paper
  kSubtract,  // q * s - z with z = 128 - a, byte by byte in software: QServe's order
};

}  // namespace liquidgemm::cuda
