// The benchmarks in a build that has no CUDA: the same interface, saying so.
#include "bench/device_bench.h"
#include "bench/gemm_bench.h"

namespace liquidgemm::bench {
namespace {

Status no_cuda() {
  return unsupported(
      "this build of liquid has no CUDA: bench measures Hopper GPUs. Build it where nvcc 12.4 or "
      "newer is found (cmake -DLIQUIDGEMM_CUDA=ON says what is missing)");
}

}  // namespace

Result<Ceilings> measure_ceilings(const CudaDevice&) { return no_cuda(); }

std::string driver_name(const CudaDevice&) { return ""; }

Result<std::vector<DeviceFigure>> measure_device(const CudaDevice&,
                                                 const std::function<Status(const std::string&)>&) {
  return no_cuda();
}

struct GemmBench::State {
  CudaDevice device;
  Ceilings ceilings;
};

GemmBench::GemmBench(std::unique_ptr<State> state) : state_(std::move(state)) {}
GemmBench::GemmBench(GemmBench&&) noexcept = default;
GemmBench& GemmBench::operator=(GemmBench&&) noexcept = default;
GemmBench::~GemmBench() = default;

Result<GemmBench> GemmBench::open(const GemmBenchOptions&) { return no_cuda(); }
const CudaDevice& GemmBench::device() const { return state_->device; }
const Ceilings& GemmBench::ceilings() const { return state_->ceilings; }
std::string GemmBench::cublas_version() const { return ""; }
std::string GemmBench::driver_version() const { return ""; }
Result<GemmCell> GemmBench::measure(const Shape&, std::int64_t) { return no_cuda(); }

}  // namespace liquidgemm::bench
