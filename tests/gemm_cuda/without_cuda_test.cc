// A build without CUDA has the same interface, and every call says what it lacks.
#include <gtest/gtest.h>

#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace {

void expect_no_cuda(const Status& status) {
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.message().find("no CUDA"), std::string::npos) << status.to_string();
}

TEST(WithoutCuda, EveryCallSaysSo) {
  CudaGemmDesc desc;
  desc.n = 64;
  desc.k = 64;
  expect_no_cuda(open_cuda_device().status());
  expect_no_cuda(can_implement(desc, CudaDevice{}));
  expect_no_cuda(pack_weights(desc, CudaWeightSource{}, nullptr, nullptr));
  expect_no_cuda(CudaGemmPlan::make(desc, 1, CudaDevice{}).status());
  expect_no_cuda(CudaGemmPlan().launch(CudaGemmArguments{}, nullptr));
  expect_no_cuda(quantize_rows(CudaQuantizeArguments{}, nullptr));
  expect_no_cuda(add_norm_quantize_rows(CudaAddNormQuantizeArguments{}, nullptr));
  EXPECT_EQ(packed_weight_bytes(desc), 0u);
}

}  // namespace
}  // namespace liquidgemm
