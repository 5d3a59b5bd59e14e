// Device memory, streams, events and captured graphs that free themselves.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>
#include <utility>

#include "gemm/cuda/cuda_status.h"
#include "liquidgemm/status.h"

namespace liquidgemm::cuda {

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

// Host memory that the GPU copies from and to by itself.
using PinnedMemory = Owned<void*, cudaFreeHost>;
Result<PinnedMemory> allocate_pinned(std::size_t bytes);

Result<Stream> make_stream();
Result<Event> make_event();

// What `body` launches on `stream`, as a graph.
Result<GraphExec> capture(cudaStream_t stream, const std::function<Status()>& body);

}  // namespace liquidgemm::cuda
