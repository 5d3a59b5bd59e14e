// Memory of one owner, scratch above all: 64-byte aligned, in huge pages where they pay.
#pragma once

#include <cstddef>

namespace liquidgemm::cpu {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  ~AlignedBuffer() { release(); }
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;

  // Makes room for `bytes`. Contents are lost when the buffer has to grow. False: out of memory.
  bool reserve(std::size_t bytes);
  std::size_t size() const { return bytes_; }

  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }

 private:
  void release();

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t alignment_ = 0;
};

// Scratch of the calling thread, kept from call to call: activations in the kernels' order
// (needed by the thread that starts a GEMM) and what one worker needs for its panels.
// make_linear reserves both on every thread of its pool, so that a run allocates nothing.
AlignedBuffer& activation_scratch();
AlignedBuffer& worker_scratch();

}  // namespace liquidgemm::cpu
