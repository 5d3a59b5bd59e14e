// What this machine is: for `liquid doctor` and for recorded results.
#pragma once

#include <string>
#include <vector>

namespace liquidgemm::cli {

std::string cpu_name();
std::string operating_system();

struct GpuReport {
  std::string driver;              // "CUDA 13.0", or why there is none
  std::vector<std::string> names;  // "NVIDIA H200, compute capability 9.0, 139 GiB"
};
// Asks the driver library, opened at run time; a machine without one is no error.
GpuReport find_gpus();

}  // namespace liquidgemm::cli
