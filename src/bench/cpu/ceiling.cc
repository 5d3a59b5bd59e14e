#include "bench/cpu/ceiling.h"

#include <algorithm>

namespace liquidgemm::bench::cpu {

void Ceiling::take(const std::string& name, int threads, double rate) {
  const auto known = std::find_if(probes_.begin(), probes_.end(), [&](const Probe& probe) {
    return probe.name == name && probe.threads == threads;
  });
  if (known == probes_.end()) {
    probes_.push_back({name, threads, rate});
  } else {
    known->rate = std::max(known->rate, rate);
  }
  probed_rate_ = std::max(probed_rate_, rate);
  if (rate <= rate_) return;
  rate_ = rate;
  source_ = name + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  raised_ = false;
}

void Ceiling::raise(const std::string& product, double rate) {
  if (rate <= rate_) return;
  rate_ = rate;
  source_ = product;
  raised_ = true;
}

double floor_seconds(const CpuCeilings& ceilings, double bytes, double operations) {
  return std::max(bytes / ceilings.read.rate(), operations / ceilings.operations.rate());
}

}  // namespace liquidgemm::bench::cpu
