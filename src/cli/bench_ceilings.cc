#include "cli/bench_ceilings.h"

#include <fmt/format.h>

namespace liquidgemm::cli {

using bench::cpu::Ceiling;

std::string ceiling_text(const Ceiling& ceiling, const char* unit) {
  if (!ceiling.raised()) {
    return fmt::format("{:.1f} {} ({})", ceiling.rate() / 1e9, unit, ceiling.source());
  }
  return fmt::format("{:.1f} {} (raised to what {} reached; the best probe: {:.1f} {})",
                     ceiling.rate() / 1e9, unit, ceiling.source(), ceiling.probed_rate() / 1e9,
                     unit);
}

json::Object ceiling_json(const Ceiling& ceiling, const char* rate_name) {
  json::Array probes;
  for (const Ceiling::Probe& probe : ceiling.probes()) {
    probes.push_back(json::Object{
        {"name", probe.name}, {"threads", probe.threads}, {rate_name, probe.rate / 1e9}});
  }
  return {{rate_name, ceiling.rate() / 1e9},
          {"source", ceiling.source()},
          {"raised_to_a_row", ceiling.raised()},
          {"best_probe", ceiling.probed_rate() / 1e9},
          {"probes", std::move(probes)}};
}

}  // namespace liquidgemm::cli
