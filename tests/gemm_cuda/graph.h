// Launches recorded as a CUDA graph, replayed and timed.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <stdexcept>

#include "gemm/cuda/handles.h"
#include "gemm_cuda/cuda_fixture.h"

namespace liquidgemm::testing {

// What `launch` puts on the stream.
class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<Status()>& launch) {
    auto graph = cuda::capture(stream, launch);
    // GoogleTest reports it as a failure of the running test.
    if (!graph.ok()) throw std::runtime_error(graph.status().to_string());
    graph_ = std::move(*graph);
  }

  void replay(cudaStream_t stream) const { CHECK_CUDA(cudaGraphLaunch(graph_.get(), stream)); }

 private:
  cuda::GraphExec graph_;
};

// Milliseconds that `count` replays of `graph` take.
inline float time_replays(cudaStream_t stream, const Graph& graph, int count) {
  cudaEvent_t begin = nullptr, end = nullptr;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  CHECK_CUDA(cudaEventRecord(begin, stream));
  for (int i = 0; i < count; ++i) graph.replay(stream);
  CHECK_CUDA(cudaEventRecord(end, stream));
  CHECK_CUDA(cudaEventSynchronize(end));
  float milliseconds = 0.0f;
  CHECK_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
  CHECK_CUDA(cudaEventDestroy(begin));
  CHECK_CUDA(cudaEventDestroy(end));
  return milliseconds;
}

// Milliseconds of one replay of what `launch` puts on the stream: the best of several.
inline double best_replay(cudaStream_t stream, const std::function<Status()>& launch) {
  const Graph graph(stream, launch);
  float best = std::numeric_limits<float>::infinity();
  for (int i = 0; i < 12; ++i) best = std::min(best, time_replays(stream, graph, 1));
  return static_cast<double>(best);
}

// The same when replays have gone on for a while, and the chip has found the clock at which it can
// take them: milliseconds of one, over half a second.
inline double lasting_replay(cudaStream_t stream, const std::function<Status()>& launch) {
  const Graph graph(stream, launch);
  int count = 1;
  float milliseconds = time_replays(stream, graph, count);
  while (milliseconds <= 500.0f) {
    count *= 2;
    milliseconds = time_replays(stream, graph, count);
  }
  return static_cast<double>(milliseconds) / count;
}

}  // namespace liquidgemm::testing
