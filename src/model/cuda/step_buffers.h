// What a step tells the kernels: one block of pinned host memory and its copy on the device. Every
// field has a fixed place, so that a recorded graph finds the next step's numbers where it found
// the last one's. Block tables come last: only those of the sequences at hand are copied.
#pragma once

#include <cstdint>
#include <span>

#include "gemm/cuda/handles.h"
#include "model/backend.h"
#include "ops/cuda/attention.h"

namespace liquidgemm {

class StepBuffers {
 public:
  struct Fields {
    std::int32_t* tokens = nullptr;         // [max_rows]
    std::int32_t* positions = nullptr;      // [max_rows]
    std::int32_t* row_pages = nullptr;      // [max_rows], the page of the row's keys and values
    std::int32_t* logits_rows = nullptr;    // [max_logits_rows]
    cuda::RowSplits* row_splits = nullptr;  // [max_rows]
    std::int32_t* lengths = nullptr;        // [slots]
    std::int32_t* slot_rows = nullptr;      // [slots], the row of a sequence that decodes
    std::int32_t* unit_count = nullptr;     // one number
    std::int32_t* units_taken = nullptr;    // one number, 0 between launches
    cuda::AttentionUnit* units = nullptr;
    cuda::AttentionTile* tiles = nullptr;
    std::int32_t* block_tables = nullptr;  // [slots][table_pages]
  };
  struct Sizes {
    std::int64_t rows = 0, logits_rows = 0, slots = 0, units = 0, tiles = 0, table_pages = 0;
  };

  Status allocate(const Sizes& sizes);
  static std::size_t bytes_of(const Sizes& sizes);

  const Fields& host() const { return host_; }
  const Fields& device() const { return device_; }
  const Sizes& sizes() const { return sizes_; }
  std::size_t bytes() const { return memory_.size(); }

  // Copies what `slots` sequences need.
  Status upload(std::int64_t slots, cudaStream_t stream) const;

 private:
  static Fields lay_out(const Sizes& sizes, void* base, std::size_t& used);

  Sizes sizes_;
  cuda::DeviceBuffer memory_;
  cuda::PinnedMemory pinned_;
  Fields host_, device_;
};

}  // namespace liquidgemm
