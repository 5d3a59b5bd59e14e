#include "bench/cuda/device.h"

#include <algorithm>
#include <limits>

namespace liquidgemm::bench {

Result<DeviceBuffer> DeviceBuffer::allocate(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const Status status =
      cuda::cuda_status(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)), "cudaMalloc");
  if (!status.ok()) {
    return status.with_context(what + " (" + std::to_string(bytes >> 20) + " MiB)");
  }
  DeviceBuffer buffer;
  buffer.memory_ = Owned<void*, cudaFree>(memory);
  buffer.size_ = bytes;
  return buffer;
}

Result<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaEventCreate(&event));
  return Event(event);
}

Result<GraphExec> capture(cudaStream_t stream, int launches, const Launch& launch) {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  Status status;
  for (int i = 0; i < launches && status.ok(); ++i) status = launch(i, stream);
  // A capture that was begun is ended in any case.
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  const Owned<cudaGraph_t, cudaGraphDestroy> owned(graph);
  LIQUIDGEMM_RETURN_IF_ERROR(status);
  LIQUIDGEMM_RETURN_IF_ERROR(cuda::cuda_status(ended, "cudaStreamEndCapture"));
  cudaGraphExec_t executable = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&executable, graph, 0));
  GraphExec result(executable);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphUpload(executable, stream));
  return result;
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
