#include "bench/nvml.h"

#include <dlfcn.h>

#include <utility>

namespace liquidgemm::bench {
namespace {

constexpr int kClockSm = 1;  // NVML_CLOCK_SM

// A call of the library's plain C interface: 0 is success, a missing function is failure.
template <typename... Arguments>
bool call(void* function, Arguments... arguments) {
  return function != nullptr &&
         reinterpret_cast<int (*)(Arguments...)>(function)(arguments...) == 0;
}

}  // namespace

void* Nvml::find(const char* name) const { return ::dlsym(library_, name); }

std::optional<Nvml> Nvml::open(const std::string& bus_id) {
  Nvml nvml;
  nvml.library_ = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (nvml.library_ == nullptr || !call(nvml.find("nvmlInit_v2"))) {
    if (nvml.library_ != nullptr) ::dlclose(nvml.library_);
    nvml.library_ = nullptr;
    return std::nullopt;
  }
  if (!call(nvml.find("nvmlDeviceGetHandleByPciBusId_v2"), bus_id.c_str(), &nvml.device_)) {
    return std::nullopt;
  }
  return nvml;
}

Nvml::Nvml(Nvml&& other) noexcept
    : library_(std::exchange(other.library_, nullptr)), device_(other.device_) {}

Nvml::~Nvml() {
  if (library_ == nullptr) return;
  call(find("nvmlShutdown"));
  ::dlclose(library_);
}

unsigned Nvml::clock_mhz() const {
  unsigned mhz = 0;
  return call(find("nvmlDeviceGetClockInfo"), device_, kClockSm, &mhz) ? mhz : 0;
}

unsigned Nvml::largest_clock_mhz() const {
  unsigned mhz = 0;
  return call(find("nvmlDeviceGetMaxClockInfo"), device_, kClockSm, &mhz) ? mhz : 0;
}

double Nvml::power_watts() const {
  unsigned milliwatts = 0;
  return call(find("nvmlDeviceGetPowerUsage"), device_, &milliwatts) ? milliwatts / 1000.0 : 0.0;
}

std::string Nvml::driver_version() const {
  char text[128] = "";
  return call(find("nvmlSystemGetDriverVersion"), static_cast<char*>(text),
              static_cast<unsigned>(sizeof text))
             ? text
             : "";
}

}  // namespace liquidgemm::bench
