// SiLU as the W4A8 kernel's epilogue computes it: the contract's bits for every gate.
#include "cuda_fixture.h"
#include "gemm_cuda/silu_differences.h"

namespace liquidgemm::testing {
namespace {

class CudaSilu : public CudaTest {};

TEST_F(CudaSilu, EveryGateGivesTheContractsBits) {
  const Stream stream;
  const DeviceBuffer<unsigned long long> differences(std::vector<unsigned long long>{0});
  for (const float up : {1.0f, -0.37f, 1e-20f}) {
    CHECK_CUDA(cuda::testing::count_silu_differences(up, differences.data(), stream));
  }
  stream.wait();
  EXPECT_EQ(differences.download().front(), 0u);
}

}  // namespace
}  // namespace liquidgemm::testing
