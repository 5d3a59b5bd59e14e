// Opens a GPU, or says why there is none.
#include <cuda_runtime_api.h>

#include <string>

#include "base/status_macros.h"
#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/kernel_table.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm {
namespace {

// 13020 -> "13.2"
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// With blocks that take all the shared memory of a multiprocessor, as those of the GEMM do.
Status count_clusters(CudaDevice& device) {
  const auto kernels = cuda::kernels<8, 32>();
  if (kernels.empty()) return ok_status();
  const cuda::KernelEntry& entry = kernels[0];
  const void* kernel = reinterpret_cast<const void*>(entry.kernel);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(device.shared_bytes_per_block)));
  for (std::size_t size = 1; size < device.clusters.size(); ++size) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(size));
    config.blockDim = dim3(static_cast<unsigned>(entry.threads));
    config.dynamicSmemBytes = device.shared_bytes_per_block;
    config.attrs = &attribute;
    config.numAttrs = 1;
    if (cudaOccupancyMaxActiveClusters(&device.clusters[size], kernel, &config) != cudaSuccess) {
      device.clusters[size] = 0;
      static_cast<void>(cudaGetLastError());
    }
  }
  return ok_status();
}

Status read_rates(CudaDevice& device) {
  int clock_kilohertz = 0, memory_kilohertz = 0, width_bits = 0;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&clock_kilohertz, cudaDevAttrClockRate, device.index));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&memory_kilohertz, cudaDevAttrMemoryClockRate, device.index));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&width_bits, cudaDevAttrGlobalMemoryBusWidth, device.index));
  device.clock_hertz = 1e3 * clock_kilohertz;
  // Twice a clock.
  device.memory_bytes_per_second = 2e3 * memory_kilohertz * width_bits / 8;
  return ok_status();
}

}  // namespace

Result<CudaDevice> open_cuda_device(int index) {
  CudaDevice device;
  device.index = index;
  // Needs no driver: it answers 0 where there is none.
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaDriverGetVersion(&device.driver_version));
  if (device.driver_version == 0) {
    return unsupported("CUDA: this machine has no NVIDIA driver");
  }
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaErrorInsufficientDriver) {
    static_cast<void>(cudaGetLastError());
    return unsupported("CUDA: the driver is for CUDA " + version_text(device.driver_version) +
                       ", but this build needs one for CUDA " + version_text(CUDART_VERSION) +
                       "; update the driver");
  }
  if (counted != cudaSuccess) {
    // No device at all, or a driver that cannot start: either way there is no GPU to use.
    return unsupported(cuda::cuda_status(counted, "cudaGetDeviceCount").message());
  }
  if (index < 0 || index >= count) {
    return unsupported("CUDA: there is no device " + std::to_string(index) + ", this machine has " +
                       std::to_string(count));
  }
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaSetDevice(index));
  cudaDeviceProp properties;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, index));
  device.name = properties.name;
  device.compute_major = properties.major;
  device.compute_minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.memory_bytes = properties.totalGlobalMem;
  device.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  device.shared_bytes_per_block = properties.sharedMemPerBlockOptin;
  LIQUIDGEMM_RETURN_IF_ERROR(read_rates(device));
  if (device.compute_major == 9) LIQUIDGEMM_RETURN_IF_ERROR(count_clusters(device));
  return device;
}

}  // namespace liquidgemm
