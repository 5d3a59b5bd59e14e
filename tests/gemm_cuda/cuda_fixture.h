// Shared by the tests of the Hopper kernels: the GPU or a skip, and device memory whose
// surroundings are watched.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "gemm/random_layers.h"
#include "liquidgemm/cuda_gemm.h"

namespace liquidgemm::testing {

// GoogleTest reports the exception as a failure of the running test.
inline void check_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(code));
}
#define CHECK_CUDA(call) ::liquidgemm::testing::check_cuda((call), #call)

// What the library was given or has failed to do, in its own words.
inline ::testing::AssertionResult is_ok(const Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << status.to_string();
}

// Tests that need a Hopper GPU. Skipped, with the reason, on a machine that has none.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Result<CudaDevice> device = open_cuda_device();
    if (!device.ok()) GTEST_SKIP() << "no GPU to test on: " << device.status().message();
    device_ = *device;
    CudaGemmDesc smallest;
    smallest.n = 8;
    smallest.k = 32;
    const Status usable = can_implement(smallest, device_);
    if (!usable.ok()) GTEST_SKIP() << "no GPU to test on: " << usable.message();
    opened_ = true;
  }
  // An out-of-bounds access of a kernel shows at the next call at the latest.
  void TearDown() override {
    if (!opened_) return;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }

  CudaDevice device_;

 private:
  bool opened_ = false;
};

class Stream {
 public:
  Stream() { CHECK_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }  // NOLINT
  void wait() const { CHECK_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// `count` elements between two guard bands, all poisoned. The data begins 256-byte aligned.
template <typename T>
class DeviceBuffer {
 public:
  static constexpr std::size_t kGuard = 512;
  static constexpr std::uint8_t kPoison = 0xA5;

  explicit DeviceBuffer(std::size_t count) : count_(count) {
    CHECK_CUDA(cudaMalloc(&memory_, bytes() + 2 * kGuard));
    CHECK_CUDA(cudaMemset(memory_, kPoison, bytes() + 2 * kGuard));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  explicit DeviceBuffer(std::span<const T> values) : DeviceBuffer(values.size()) { upload(values); }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(std::span(values)) {}
  ~DeviceBuffer() { static_cast<void>(cudaFree(memory_)); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() const { return reinterpret_cast<T*>(static_cast<std::uint8_t*>(memory_) + kGuard); }
  std::size_t count() const { return count_; }
  std::size_t bytes() const { return count_ * sizeof(T); }

  // Streams of the tests do not wait for the default stream, so these calls wait for the device.
  void upload(std::span<const T> values) const {
    CHECK_CUDA(cudaMemcpy(data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  void fill(std::uint8_t byte) const {
    CHECK_CUDA(cudaMemset(data(), byte, bytes()));
    CHECK_CUDA(cudaDeviceSynchronize());
  }
  std::vector<T> download() const {
    std::vector<T> values(count_);
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(cudaMemcpy(values.data(), data(), bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

  ::testing::AssertionResult guards_intact() const {
    std::vector<std::uint8_t> all(bytes() + 2 * kGuard);
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost));
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (all[i] != kPoison) {
        return ::testing::AssertionFailure() << "wrote " << kGuard - i << " bytes before a buffer";
      }
      if (all[kGuard + bytes() + i] != kPoison) {
        return ::testing::AssertionFailure() << "wrote " << i << " bytes behind a buffer";
      }
    }
    return ::testing::AssertionSuccess();
  }

 private:
  void* memory_ = nullptr;
  std::size_t count_ = 0;
};

template <typename T>
T poison_value() {
  T value;
  std::memset(static_cast<void*>(&value), DeviceBuffer<T>::kPoison, sizeof(value));
  return value;
}

// A weight in checkpoint form on the device.
class DeviceSource {
 public:
  explicit DeviceSource(const Layer& layer)
      : packed_(layer.packed),
        step_(layer.step),
        offset_(layer.offset),
        int8_(layer.int8),
        channel_scale_(layer.channel_scale) {}

  CudaWeightSource view() const {
    CudaWeightSource source;
    source.packed = packed_.data();
    source.group_step = step_.data();
    source.group_offset = offset_.data();
    source.int8 = int8_.count() > 0 ? int8_.data() : nullptr;
    source.channel_scale = channel_scale_.data();
    source.name = "test.layer";
    return source;
  }

 private:
  DeviceBuffer<std::uint8_t> packed_, step_, offset_;
  DeviceBuffer<std::int8_t> int8_;
  DeviceBuffer<float> channel_scale_;
};

inline CudaGemmDesc desc_of(const Layer& layer, CudaOutput output = CudaOutput::kFloat16) {
  CudaGemmDesc desc;
  desc.n = layer.n;
  desc.k = layer.k;
  desc.group_size = layer.kind == WeightView::Kind::kInt8 ? kInt8Weights : layer.group_size;
  desc.output = output;
  return desc;
}

}  // namespace liquidgemm::testing
