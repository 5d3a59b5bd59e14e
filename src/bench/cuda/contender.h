// One contender of a comparison: a captured graph of its launches and the times of its rounds.
#pragma once

#include <functional>
#include <vector>

#include "bench/cuda/device.h"
#include "bench/gemm_bench.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

class Contender {
 public:
  Contender() = default;
  // Launches once outside a graph (kernels are loaded, arguments refused), then captures as many
  // launches as `replay_seconds` need: a multiple of `copies`, so that each replay goes round all.
  static Result<Contender> make(int copies, double replay_seconds, const Launch& launch,
                                Stopwatch& watch);

  Status run_round(Stopwatch& watch, const std::function<void()>& meanwhile);
  Status replay_once(Stopwatch& watch);
  // Of one launch, over the rounds so far.
  Timing timing() const;
  int copies() const { return copies_; }

 private:
  GraphExec graph_;
  int copies_ = 0;
  int launches_ = 0;
  std::vector<double> seconds_;  // of one launch, by round
};

}  // namespace liquidgemm::bench
