#include "bench/cuda/contender.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/median.h"

namespace liquidgemm::bench {
namespace {

constexpr int kMaxLaunches = 5000;  // nodes of one graph

}  // namespace

Result<Contender> Contender::make(int copies, double replay_seconds, const Launch& launch,
                                  Stopwatch& watch) {
  Contender contender;
  contender.copies_ = copies;
  contender.launches_ = copies;
  LIQUIDGEMM_RETURN_IF_ERROR(launch(0, watch.stream()));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(watch.stream()));
  LIQUIDGEMM_ASSIGN_OR_RETURN(contender.graph_, capture(watch.stream(), copies, launch));
  LIQUIDGEMM_RETURN_IF_ERROR(contender.replay_once(watch));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.replay(contender.graph_));
  const double rotations = std::min(std::ceil(replay_seconds / std::max(seconds, 1e-9)),
                                    static_cast<double>(kMaxLaunches / copies));
  if (rotations > 1.0) {
    contender.launches_ = copies * static_cast<int>(rotations);
    LIQUIDGEMM_ASSIGN_OR_RETURN(contender.graph_,
                                capture(watch.stream(), contender.launches_, launch));
    LIQUIDGEMM_RETURN_IF_ERROR(contender.replay_once(watch));
  }
  return contender;
}

Status Contender::run_round(Stopwatch& watch, const Nvml* nvml) {
  std::function<void()> meanwhile;
  if (nvml != nullptr) {
    meanwhile = [&] {
      clocks_.push_back(nvml->clock_mhz());
      powers_.push_back(nvml->power_watts());
    };
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.replay(graph_, meanwhile));
  seconds_.push_back(seconds / launches_);
  return ok_status();
}

Status Contender::replay_once(Stopwatch& watch, const std::function<void()>& meanwhile) {
  auto seconds = watch.replay(graph_, meanwhile);
  return seconds.ok() ? ok_status() : seconds.status();
}

Status Contender::replay_for(double seconds, Stopwatch& watch) {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() <
         seconds) {
    LIQUIDGEMM_RETURN_IF_ERROR(replay_once(watch));
  }
  return ok_status();
}

Timing Contender::timing() const {
  if (seconds_.empty()) return {};
  const auto [least, most] = std::minmax_element(seconds_.begin(), seconds_.end());
  const double seconds = median(seconds_);
  return {seconds, (*most - *least) / seconds, median(clocks_), median(powers_)};
}

}  // namespace liquidgemm::bench
