// A safetensors file: every accepted tensor must lie inside it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "model/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto tensors = liquidgemm::parse_safetensors(file, "fuzz.safetensors");
  if (!tensors.ok()) return 0;
  for (const liquidgemm::StoredTensor& tensor : *tensors) {
    const auto bytes = liquidgemm::tensor_bytes(tensor.info.dtype, tensor.info.shape);
    if (!bytes || *bytes != tensor.info.bytes) std::abort();
    if (tensor.begin > size || static_cast<std::size_t>(*bytes) > size - tensor.begin) std::abort();
  }
  return 0;
}
