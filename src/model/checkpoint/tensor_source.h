// Where weights come from: a Hugging Face folder or a GGUF file, both seen through Hugging Face's
// tensor names and row-major [N, K] shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // Every tensor, in file order. Names are Hugging Face's whatever the file format.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // nullptr when there is none. A linear search here; the file readers have an index.
  virtual const TensorInfo* find(std::string_view name) const;
  // Not found says which file was searched.
  Result<const TensorInfo*> require(std::string_view name) const;

  // The stored bytes of a tensor, mapped. Only for tensors whose stored order is their row order
  // (always so in safetensors; for GGUF see read_rows).
  virtual Result<std::span<const std::byte>> bytes(std::string_view name) const = 0;

  // Rows [first, first + count) as float32, row-major; a 1-D tensor is one row. Float and block
  // types only. GGUF's permuted q and k rows come back in Hugging Face's order.
  // Safe from several threads at once.
  virtual Status read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                           float* out) const = 0;

  // The caller is done with this tensor for now: its pages may leave memory.
  virtual void release(std::string_view name) const = 0;

  // The file or folder, for messages.
  virtual const std::string& where() const = 0;
};

}  // namespace liquidgemm
