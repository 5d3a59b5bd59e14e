#include "gemm/cuda/handles.h"

#include <algorithm>

namespace liquidgemm::cuda {

Result<DeviceBuffer> DeviceBuffer::allocate(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const Status status =
      cuda_status(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)), "cudaMalloc");
  if (!status.ok()) {
    return status.with_context(what + " (" + std::to_string(bytes >> 20) + " MiB)");
  }
  DeviceBuffer buffer;
  buffer.memory_ = Owned<void*, cudaFree>(memory);
  buffer.size_ = bytes;
  return buffer;
}

Result<PinnedMemory> allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMallocHost(&memory, std::max<std::size_t>(bytes, 1)));
  return PinnedMemory(memory);
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

Result<GraphExec> capture(cudaStream_t stream, const std::function<Status()>& body) {
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const Status status = body();
  // A capture that was begun is ended in any case.
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  const Owned<cudaGraph_t, cudaGraphDestroy> owned(graph);
  LIQUIDGEMM_RETURN_IF_ERROR(status);
  LIQUIDGEMM_RETURN_IF_ERROR(cuda_status(ended, "cudaStreamEndCapture"));
  cudaGraphExec_t executable = nullptr;
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&executable, graph, 0));
  GraphExec result(executable);
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaGraphUpload(executable, stream));
  return result;
}

}  // namespace liquidgemm::cuda
