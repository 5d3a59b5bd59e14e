#include "bench/cuda/contender.h"

#include <algorithm>
#include <cmath>

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

Status Contender::run_round(Stopwatch& watch, const std::function<void()>& meanwhile) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, watch.replay(graph_, meanwhile));
  seconds_.push_back(seconds / launches_);
  return ok_status();
}

Status Contender::replay_once(Stopwatch& watch) {
  auto seconds = watch.replay(graph_);
  return seconds.ok() ? ok_status() : seconds.status();
}

Timing Contender::timing() const {
  if (seconds_.empty()) return {};
  std::vector<double> sorted = seconds_;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2];
  return {median, (sorted.back() - sorted.front()) / median};
}

}  // namespace liquidgemm::bench
