#include "bench/cuda/device.h"

#include <algorithm>
#include <limits>

namespace liquidgemm::bench {

Result<GraphExec> capture(cudaStream_t stream, int launches, const Launch& launch) {
  return cuda::capture(stream, [&] {
    Status status;
    for (int i = 0; i < launches && status.ok(); ++i) status = launch(i, stream);
    return status;
  });
}

Result<Stopwatch> Stopwatch::make() {
  Stopwatch watch;
  LIQUIDGEMM_ASSIGN_OR_RETURN(watch.stream_, make_stream());
  LIQUIDGEMM_ASSIGN_OR_RETURN(watch.begin_, make_event());
  LIQUIDGEMM_ASSIGN_OR_RETURN(watch.end_, make_event());
  return watch;
}

Result<double> Stopwatch::replay(const GraphExec& graph, const std::function<void()>& meanwhile) {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventRecord(begin_.get(), stream()));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphLaunch(graph.get(), stream()));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventRecord(end_.get(), stream()));
  if (meanwhile) meanwhile();
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(end_.get()));
  float milliseconds = 0.0f;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()));
  return static_cast<double>(milliseconds) * 1e-3;
}

Result<double> Stopwatch::shortest(int launches, int replays, const Launch& launch) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const GraphExec graph, capture(stream(), launches, launch));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= replays; ++i) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const double seconds, replay(graph));
    if (i > 0) best = std::min(best, seconds / launches);
  }
  return best;
}

}  // namespace liquidgemm::bench
