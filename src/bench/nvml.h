// Clock and power of a GPU, asked from NVIDIA's management library, which is opened at run time.
// Without it the figures are simply not there.
#pragma once

#include <optional>
#include <string>

namespace liquidgemm::bench {

class Nvml {
 public:
  // `bus_id` is the PCI address as CUDA prints it ("0000:1b:00.0").
  static std::optional<Nvml> open(const std::string& bus_id);

  Nvml(Nvml&& other) noexcept;
  Nvml& operator=(Nvml&&) = delete;
  ~Nvml();

  unsigned clock_mhz() const;          // the SM clock now; 0: not known
  unsigned largest_clock_mhz() const;  // that the SM clock may have; 0: not known
  double power_watts() const;          // 0: not known
  std::string driver_version() const;  // "580.159.04"; empty: not known

 private:
  Nvml() = default;
  void* find(const char* name) const;

  void* library_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace liquidgemm::bench
