// A GGUF file: the container, then the config and the tokenizer that it implies.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "model/checkpoint/block_formats.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/gguf_source.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = liquidgemm::parse_gguf(bytes, "fuzz.gguf");
  if (!file.ok()) return 0;
  for (const liquidgemm::StoredTensor& tensor : file->tensors) {
    const auto length = static_cast<std::size_t>(tensor.info.bytes);
    if (tensor.begin > size || length > size - tensor.begin) std::abort();
    if (!liquidgemm::converts_to_float(tensor.info.dtype)) continue;
    const auto count = liquidgemm::element_count(tensor.info.shape);
    std::vector<float> values(static_cast<std::size_t>(count.value()));
    liquidgemm::convert_to_float(tensor.info.dtype, bytes.data() + tensor.begin, *count,
                                 values.data());
    (void)liquidgemm::rope_scaling_from_factors(values, 1e4, "fuzz.gguf").ok();
  }
  auto config = liquidgemm::config_from_gguf(*file);
  // The tokenizer is worth trying without a whole config too.
  if (!config.ok()) config = liquidgemm::ModelConfig();
  config->vocab_size = 1000;
  (void)liquidgemm::tokenizer_from_gguf(file->metadata, *config).ok();
  return 0;
}
