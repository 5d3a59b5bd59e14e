// What one GPU reaches at best: the ceilings that every floor and every ratio is set against.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/goal_shapes.h"
#include "liquidgemm/cuda_gemm.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

struct DeviceFigure {
  std::string name;  // "device memory read"
  std::string key;   // "hbm_read", its name in JSON
  double value = 0.0;
  std::string unit;    // "TB/s", "TOPS", "us"
  std::string detail;  // the best configuration, resources
};

// Only what floors need: device memory and INT8 wgmma. Well under a second.
Result<Ceilings> measure_ceilings(const CudaDevice& device);

// NVIDIA's number for the driver ("580.159.04"), or what it knows of CUDA where that is not known.
std::string driver_name(const CudaDevice& device);

// Everything `liquid bench device` prints. `step` is called before each of kDeviceMeasurements.
inline constexpr int kDeviceMeasurements = 18;
Result<std::vector<DeviceFigure>> measure_device(
    const CudaDevice& device, const std::function<Status(const std::string&)>& step);

}  // namespace liquidgemm::bench
