// Writes one safetensors file whose tensors are known before their values: the header comes first,
// values follow in any order and from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/tensor.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class SafetensorsWriter {
 public:
  // Creates the file, reserves its whole length (a full disk shows here) and writes the header.
  // In the file, tensors of wider elements come first, so that each lies aligned to its element;
  // `tensors` keep their numbers here. Nothing is visible at `path` before commit().
  static Result<SafetensorsWriter> create(const std::string& path, std::vector<TensorInfo> tensors);

  // The length that create() reserves for these tensors.
  static std::uint64_t file_bytes(const std::vector<TensorInfo>& tensors);

  // Bytes [offset, offset + bytes.size()) of tensor number `tensor`. Safe from several threads on
  // ranges that do not overlap. The caller writes every byte before commit().
  Status write(std::size_t tensor, std::int64_t offset, std::span<const std::byte> bytes);

  // Flushes to disk and puts the file in place.
  Status commit();

 private:
  explicit SafetensorsWriter(AtomicFile file) : file_(std::move(file)) {}

  AtomicFile file_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::uint64_t> begins_;  // from the start of the file
};

}  // namespace liquidgemm
