// `liquid bench device`: the ceilings of one GPU.

#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "bench/device_bench.h"
#include "cli/bench.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {
namespace {

Status bench_device(bool json) {
  interrupt_flag();
  LIQUIDGEMM_ASSIGN_OR_RETURN(const CudaDevice device, open_cuda_device());
  Progress progress("Measuring", bench::kDeviceMeasurements, "ceilings");
  const auto step = [&](const std::string& name) {
    if (interrupt_flag()) return cancelled("interrupted");
    progress.advance(1, name);
    return ok_status();
  };
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto figures, bench::measure_device(device, step));
  progress.finish();
  if (json) {
    json::Object values;
    for (const bench::DeviceFigure& figure : figures) {
      values[figure.key] =
          json::Object{{"value", figure.value}, {"unit", figure.unit}, {"detail", figure.detail}};
    }
    const json::Object object{{"device", device.name},
                              {"multiprocessors", device.multiprocessors},
                              {"l2_bytes", device.l2_bytes},
                              {"memory_bytes", device.memory_bytes},
                              {"driver", device.driver_version},
                              {"commit", LIQUIDGEMM_COMMIT},
                              {"figures", values}};
    std::printf("%s", json::dump_pretty(object).c_str());
    return ok_status();
  }
  std::printf("%s, %d SMs, %s L2, %s\n\n", device.name.c_str(), device.multiprocessors,
              bytes_text(static_cast<double>(device.l2_bytes)).c_str(),
              bytes_text(static_cast<double>(device.memory_bytes)).c_str());
  Table table({"ceiling", "figure", "unit", "best of"});
  for (const bench::DeviceFigure& figure : figures) {
    table.add({figure.name, number_text(figure.value), figure.unit, figure.detail});
  }
  std::printf("%s", table.text().c_str());
  return ok_status();
}

}  // namespace

void add_bench_device(CLI::App& bench, Action& action) {
  CLI::App* verb = bench.add_subcommand(
      "device", "Ceilings of the GPU: memory, L2, tensor cores, unpacking, repacking");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON");
  verb->footer("Example:\n  liquid bench device --json > device.json");
  verb->callback([json, &action] { action = [json] { return bench_device(*json); }; });
}

}  // namespace liquidgemm::cli
