// Tensors inside mapped files: what the two file readers (safetensors, GGUF) have in common.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "model/checkpoint/tensor_source.h"

namespace liquidgemm {

// A tensor's place, already checked to lie inside the file.
struct StoredTensor {
  TensorInfo info;
  std::size_t begin = 0;  // bytes from the start of the file
};

// The order in which a reader stores the rows of a tensor.
struct RowOrder {
  // 0: as Hugging Face. Otherwise the rows of each head are interleaved for llama.cpp's rotary
  // embedding, which turns neighbours (2i, 2i + 1) where Hugging Face turns (i, i + head_dim / 2).
  std::int64_t interleaved_head_dim = 0;

  // Where Hugging Face's row `row` is stored.
  std::int64_t stored_row(std::int64_t row) const;
};

class StoredTensors : public TensorSource {
 public:
  explicit StoredTensors(std::string where) : where_(std::move(where)) {}

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const TensorInfo* find(std::string_view name) const override;
  Result<std::span<const std::byte>> bytes(std::string_view name) const override;
  Status read_rows(std::string_view name, std::int64_t first, std::int64_t count,
                   float* out) const override;
  void release(std::string_view name) const override;
  const std::string& where() const override { return where_; }

  // The sum of the files' sizes.
  std::int64_t stored_bytes() const;

  // Takes the file; returns its number for add().
  std::size_t add_file(MappedFile file);
  // Call index() after the last one.
  void add(std::size_t file, StoredTensor tensor, RowOrder order = {});
  // Builds the name index; a name that appears twice is an error naming it.
  Status index();

 private:
  struct Place {
    std::size_t file = 0;
    std::size_t begin = 0;
    RowOrder order;
  };
  Result<std::size_t> require_index(std::string_view name) const;
  const std::byte* data(std::size_t index) const;

  std::string where_;
  std::vector<MappedFile> files_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;                                  // parallel to infos_
  std::unordered_map<std::string_view, std::size_t> by_name_;  // views into infos_
};

}  // namespace liquidgemm
