// Tokens and log-probabilities of a step: what is asked for, on its way to the device, and what
// comes back.
//
// What a recorded graph reads has a fixed place. Lists without a bound of their own (biases,
// counts, masks) lie in a second block that grows; then recorded graphs are of no use any more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gemm/cuda/handles.h"
#include "model/backend.h"
#include "ops/cuda/sampling.h"

namespace liquidgemm {

class SampleBuffers {
 public:
  Status allocate(std::int64_t most, std::int64_t vocabulary);
  static std::size_t bytes_of(std::int64_t most);

  // Writes down what the step wants and sends it off. Sets moved() where recorded graphs know an
  // old place.
  Status upload(const StepInput& input, cudaStream_t stream);
  bool moved() const { return moved_; }
  // No sample has a temperature or changes of its logits.
  bool plain_greedy() const { return plain_greedy_; }

  // Launches; the step's logits are rows of `ld` floats.
  Status sample(const float* logits, std::int64_t ld, std::int64_t rows, cudaStream_t stream);
  Status score(const float* logits, std::int64_t ld, std::int64_t rows, cudaStream_t stream);
  // After the stream has been waited for.
  void take(const StepInput& input, std::vector<SampledToken>& sampled,
            std::vector<TokenScore>& scores) const;

 private:
  // The same fields on the host and on the device.
  struct Fields {
    CudaSample* samples = nullptr;
    CudaScore* scores = nullptr;
    std::int32_t* count = nullptr;
    SampledToken* sampled = nullptr;
    CudaRowScore* scored = nullptr;
  };
  struct Lists {
    TokenBias* biases = nullptr;
    TokenCount* counts = nullptr;
    std::uint32_t* masks = nullptr;
  };
  struct ListSizes {
    std::size_t biases = 0, counts = 0, masks = 0;
  };
  static Fields lay_out(std::int64_t most, void* base, std::size_t& used);
  static Lists lay_out(const ListSizes& sizes, void* base, std::size_t& used);
  Status grow(const ListSizes& wanted);

  std::int64_t most_ = 0;
  std::int32_t vocabulary_ = 0;
  std::int32_t score_count_ = 0;
  bool plain_greedy_ = false;
  bool moved_ = false;
  cuda::DeviceBuffer memory_, list_memory_, workspace_;
  cuda::PinnedMemory pinned_, pinned_lists_;
  Fields host_, device_;
  Lists host_lists_, device_lists_;
  ListSizes sizes_;
  std::size_t list_bytes_ = 0;
};

}  // namespace liquidgemm
