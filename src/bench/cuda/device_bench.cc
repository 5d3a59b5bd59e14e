#include "bench/device_bench.h"

#include <algorithm>
#include <array>
#include <optional>

#include "bench/cuda/probes.h"
#include "bench/nvml.h"

namespace liquidgemm::bench {

Result<Ceilings> measure_ceilings(const CudaDevice& device) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Stopwatch watch, Stopwatch::make());
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Best loads,
                              device_memory_read(device, ReadPath::kLoads, watch));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Best copies,
                              device_memory_read(device, ReadPath::kBulk, watch));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Best registers, wgmma_rate(device, false, watch));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const Best shared, wgmma_rate(device, true, watch));
  return Ceilings{std::max(loads.value, copies.value), std::max(registers.value, shared.value)};
}

std::string driver_name(const CudaDevice& device) {
  char bus[32] = "";
  if (cudaDeviceGetPCIBusId(bus, sizeof bus, device.index) == cudaSuccess) {
    const std::optional<Nvml> nvml = Nvml::open(bus);
    if (nvml && !nvml->driver_version().empty()) return nvml->driver_version();
  }
  return "CUDA " + std::to_string(device.driver_version / 1000) + "." +
         std::to_string(device.driver_version % 1000 / 10);
}

Result<std::vector<DeviceFigure>> measure_device(
    const CudaDevice& device, const std::function<Status(const std::string&)>& step) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Stopwatch watch, Stopwatch::make());
  struct Measurement {
    const char* name;
    const char* key;
    const char* unit;
    double unit_per_second;  // what one unit is in the measurement's own
    std::function<Result<Best>()> run;
  };
  const auto memory = [&](ReadPath path) {
    return [&, path] { return device_memory_read(device, path, watch); };
  };
  const auto cache = [&](ReadPath path) {
    return [&, path] { return l2_read(device, path, watch); };
  };
  const auto rate = [&](bool shared) {
    return [&, shared] { return wgmma_rate(device, shared, watch); };
  };
  const auto feed = [&](int tokens, cuda::Unpack unpack = cuda::Unpack::kUnsigned) {
    return [&, tokens, unpack] { return unpack_feed(device, unpack, tokens, watch); };
  };
  const auto cost = [&](bool programmatic) {
    return [&, programmatic] { return launch_cost(device, programmatic, watch); };
  };
  // All but the repacking at the end.
  const std::array<Measurement, kDeviceMeasurements - 1> measurements = {{
      {"device memory read, loads", "hbm_read_loads", "TB/s", 1e12, memory(ReadPath::kLoads)},
      {"device memory read, bulk copies", "hbm_read_bulk", "TB/s", 1e12, memory(ReadPath::kBulk)},
      {"L2 read, loads", "l2_read_loads", "TB/s", 1e12, cache(ReadPath::kLoads)},
      {"L2 read, bulk copies", "l2_read_bulk", "TB/s", 1e12, cache(ReadPath::kBulk)},
      {"INT8 wgmma n=256, A in registers", "wgmma_registers", "TOPS", 1e12, rate(false)},
      {"INT8 wgmma n=256, A in shared memory", "wgmma_shared", "TOPS", 1e12, rate(true)},
      {"unpacking and wgmma, 8 tokens", "unpack_feed_8", "TB/s of INT4", 1e12, feed(8)},
      {"unpacking and wgmma, 64 tokens", "unpack_feed_64", "TB/s of INT4", 1e12, feed(64)},
      {"unpacking and wgmma, 128 tokens", "unpack_feed_128", "TB/s of INT4", 1e12, feed(128)},
      {"the same, XOR, 8 tokens", "unpack_feed_8_xor", "TB/s of INT4", 1e12,
       feed(8, cuda::Unpack::kXor)},
      {"the same, as in QServe, 8 tokens", "unpack_feed_8_qserve", "TB/s of INT4", 1e12,
       feed(8, cuda::Unpack::kSubtract)},
      {"the same, XOR, 64 tokens", "unpack_feed_64_xor", "TB/s of INT4", 1e12,
       feed(64, cuda::Unpack::kXor)},
      {"the same, as in QServe, 64 tokens", "unpack_feed_64_qserve", "TB/s of INT4", 1e12,
       feed(64, cuda::Unpack::kSubtract)},
      {"the same, XOR, 128 tokens", "unpack_feed_128_xor", "TB/s of INT4", 1e12,
       feed(128, cuda::Unpack::kXor)},
      {"the same, as in QServe, 128 tokens", "unpack_feed_128_qserve", "TB/s of INT4", 1e12,
       feed(128, cuda::Unpack::kSubtract)},
      {"empty kernel in a graph", "launch_strict", "us", 1e-6, cost(false)},
      {"the same, programmatic launch", "launch_programmatic", "us", 1e-6, cost(true)},
  }};
  std::vector<DeviceFigure> figures;
  for (const Measurement& measurement : measurements) {
    LIQUIDGEMM_RETURN_IF_ERROR(step(measurement.name));
    auto best = measurement.run();
    if (!best.ok()) return best.status().with_context(measurement.name);
    figures.push_back({measurement.name, measurement.key, best->value / measurement.unit_per_second,
                       measurement.unit, best->detail});
  }
  const char* repacking = "repacking weights, read + written";
  LIQUIDGEMM_RETURN_IF_ERROR(step(repacking));
  const auto packing = packing_speed(watch);
  if (!packing.ok()) return packing.status().with_context(repacking);
  figures.push_back({repacking, "pack_best", packing->best / 1e9, "GB/s", packing->detail});
  figures.push_back(
      {"the same, the median call", "pack_median", packing->median / 1e9, "GB/s", packing->detail});
  return figures;
}

}  // namespace liquidgemm::bench
