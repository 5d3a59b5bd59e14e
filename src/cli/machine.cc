#include "cli/machine.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include <fstream>

namespace liquidgemm::cli {
namespace {

// "key : value" files such as /proc/cpuinfo and "KEY=value" ones such as /etc/os-release.
std::string first_value(const char* file, const std::string& key, char separator) {
  std::ifstream stream(file);
  std::string line;
  while (std::getline(stream, line)) {
    const std::size_t at = line.find(separator);
    if (line.rfind(key, 0) != 0 || at == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t\"", at + 1);
    if (begin == std::string::npos) continue;
    const std::size_t end = line.find_last_not_of(" \t\"");
    return line.substr(begin, end - begin + 1);
  }
  return "";
}

}  // namespace

std::string cpu_name() {
  const std::string name = first_value("/proc/cpuinfo", "model name", ':');
  if (!name.empty()) return name;
  utsname system{};
  ::uname(&system);
  return system.machine;
}

std::string operating_system() {
  utsname system{};
  ::uname(&system);
  const std::string name = first_value("/etc/os-release", "PRETTY_NAME", '=');
  return fmt::format("{}, kernel {}", name.empty() ? system.sysname : name, system.release);
}

GpuReport find_gpus() {
  GpuReport report;
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    report.driver = "none (libcuda.so.1 is not there)";
    return report;
  }
  // The driver API's plain C calls; 0 is success.
  const auto find = [&](const char* name) { return ::dlsym(library, name); };
  const auto init = reinterpret_cast<int (*)(unsigned)>(find("cuInit"));
  const auto version = reinterpret_cast<int (*)(int*)>(find("cuDriverGetVersion"));
  const auto count = reinterpret_cast<int (*)(int*)>(find("cuDeviceGetCount"));
  const auto name = reinterpret_cast<int (*)(char*, int, int)>(find("cuDeviceGetName"));
  const auto total = reinterpret_cast<int (*)(std::size_t*, int)>(find("cuDeviceTotalMem_v2"));
  const auto attribute = reinterpret_cast<int (*)(int*, int, int)>(find("cuDeviceGetAttribute"));
  int number = 0;
  int devices = 0;
  if (init == nullptr || version == nullptr || count == nullptr || name == nullptr ||
      total == nullptr || attribute == nullptr || init(0) != 0 || version(&number) != 0 ||
      count(&devices) != 0) {
    report.driver = "a driver library is there, but it does not start";
    return report;
  }
  report.driver = fmt::format("CUDA {}.{}", number / 1000, number % 1000 / 10);
  constexpr int kComputeCapabilityMajor = 75;
  constexpr int kComputeCapabilityMinor = 76;
  for (int device = 0; device < devices; ++device) {
    char text[256] = "";
    std::size_t bytes = 0;
    int major = 0;
    int minor = 0;
    name(text, sizeof text, device);
    total(&bytes, device);
    attribute(&major, kComputeCapabilityMajor, device);
    attribute(&minor, kComputeCapabilityMinor, device);
    report.names.push_back(fmt::format("{}, compute capability {}.{}, {:.0f} GiB", text, major,
                                       minor, static_cast<double>(bytes) / (1u << 30)));
  }
  return report;
}

}  // namespace liquidgemm::cli
