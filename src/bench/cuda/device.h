// Device memory, streams, events and captured graphs that free themselves.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>
#include <utility>

#include "gemm/cuda/cuda_status.h"
#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// An owned handle of the CUDA runtime: `Free` is called on what is not zero.
template <typename Handle, auto Free>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != Handle{}) (void)Free(handle_);
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_{};
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // `what` is for the message when memory runs out.
  static Result<DeviceBuffer> allocate(std::size_t bytes, const std::string& what);

  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }
  char* bytes() const { return as<char>(); }
  std::size_t size() const { return size_; }

 private:
  Owned<void*, cudaFree> memory_;
  std::size_t size_ = 0;
};

Result<Stream> make_stream();
Result<Event> make_event();

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
