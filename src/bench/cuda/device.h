// Captured graphs of many launches, and how long they take.
#pragma once

#include <functional>

#include "gemm/cuda/handles.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

using cuda::DeviceBuffer;
using cuda::Event;
using cuda::GraphExec;
using cuda::make_event;
using cuda::make_stream;
using cuda::Owned;
using cuda::Stream;

// One launch of what is timed; `index` counts the launches of a graph.
using Launch = std::function<Status(int index, cudaStream_t stream)>;

// A graph of `launches` calls, one after the other.
Result<GraphExec> capture(cudaStream_t stream, int launches, const Launch& launch);

// Times replays with two events on one stream.
class Stopwatch {
 public:
  static Result<Stopwatch> make();
  cudaStream_t stream() const { return stream_.get(); }
  // Seconds of one replay. `meanwhile` runs on the host while the GPU works.
  Result<double> replay(const GraphExec& graph, const std::function<void()>& meanwhile = {});
  // The shortest of `replays` after one that is not counted, for one of the graph's launches.
  Result<double> shortest(int launches, int replays, const Launch& launch);

 private:
  Stream stream_;
  Event begin_;
  Event end_;
};

}  // namespace liquidgemm::bench
