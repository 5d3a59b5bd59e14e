// One contender of a comparison: a captured graph of its launches and the times of its rounds.
#pragma once

#include <functional>
#include <vector>

#include "bench/cuda/device.h"
#include "bench/gemm_bench.h"
#include "bench/nvml.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

class Contender {
 public:
  Contender() = default;
  // Launches once outside a graph (kernels are loaded, arguments refused), then captures as many
  // launches as `replay_seconds` need: a multiple of `copies`, so that each replay goes round all.
  static Result<Contender> make(int copies, double replay_seconds, const Launch& launch,
                                Stopwatch& watch);

  // Times one replay. With `nvml`, clock and power are read while it runs.
  Status run_round(Stopwatch& watch, const Nvml* nvml);
  Status replay_once(Stopwatch& watch, const std::function<void()>& meanwhile = nullptr);
  Status replay_for(double seconds, Stopwatch& watch);
  // Of one launch, over the rounds so far.
  Timing timing() const;
  int copies() const { return copies_; }

 private:
  GraphExec graph_;
  int copies_ = 0;
  int launches_ = 0;
  std::vector<double> seconds_;  // of one launch, by round
  std::vector<unsigned> clocks_;
  std::vector<double> powers_;
};

}  // namespace liquidgemm::bench
