// The interface of the Hopper kernels in a build that has none: every call says so.
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace {

Status no_cuda() { return unsupported("this build has no CUDA (cmake says why)"); }

}  // namespace

Result<CudaDevice> open_cuda_device(int) { return no_cuda(); }

Status can_implement(const CudaGemmDesc&, const CudaDevice&) { return no_cuda(); }

std::size_t packed_weight_bytes(const CudaGemmDesc&) { return 0; }

Status pack_weights(const CudaGemmDesc&, const CudaWeightSource&, void*, CudaStream) {
  return no_cuda();
}

Status quantize_rows(const CudaQuantizeArguments&, CudaStream) { return no_cuda(); }

Status add_norm_quantize_rows(const CudaAddNormQuantizeArguments&, CudaStream) { return no_cuda(); }

struct CudaGemmPlan::State {};

CudaGemmPlan::CudaGemmPlan() = default;
CudaGemmPlan::~CudaGemmPlan() = default;
CudaGemmPlan::CudaGemmPlan(CudaGemmPlan&&) noexcept = default;
CudaGemmPlan& CudaGemmPlan::operator=(CudaGemmPlan&&) noexcept = default;

Result<CudaGemmPlan> CudaGemmPlan::make(const CudaGemmDesc&, std::int64_t, const CudaDevice&,
                                        std::string_view) {
  return no_cuda();
}

std::size_t CudaGemmPlan::workspace_bytes() const { return 0; }
std::string CudaGemmPlan::describe() const { return "no CUDA"; }
std::string CudaGemmPlan::schedule() const { return ""; }
Status CudaGemmPlan::launch(const CudaGemmArguments&, CudaStream) const { return no_cuda(); }

}  // namespace liquidgemm
