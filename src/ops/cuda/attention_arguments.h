// What both attention kernels are told of the tensors, in the fields that they share.
#pragma once

#include <cstdint>

#include "ops/cuda/attention.h"
#include "ops/cuda/attention_output.cuh"

namespace liquidgemm::cuda {

inline AttentionOutput attention_output(const AttentionTensors& tensors) {
  return {.out = tensors.out,
          .ld_out = tensors.ld_out,
          .head_dim = tensors.head_dim,
          .aligned = tensors.head_dim % 4 == 0 && tensors.ld_out % 4 == 0 &&
                     reinterpret_cast<std::uintptr_t>(tensors.out) % 16 == 0,
          .v_scale = tensors.v_scale};
}

// Ok, or why these are refused.
inline Status check_tensors(const AttentionTensors& tensors) {
  if (tensors.shape.element == KvElement::kInt8Static && tensors.v_scale == nullptr) {
    return invalid_argument("attention over a static int8 cache needs the scales of the values");
  }
  return can_attend(tensors.shape, tensors.heads, tensors.head_dim);
}

template <typename KernelArguments>
void set_tensors(const AttentionTensors& tensors, KernelArguments& kernel) {
  const KvPageShape& shape = tensors.shape;
  kernel.q = static_cast<const std::uint8_t*>(tensors.q);
  kernel.pages = tensors.pages + kv_head_page_offset(shape, tensors.layer, 0);
  kernel.page_bytes = kv_page_bytes(shape);
  kernel.block_tables = tensors.block_tables;
  kernel.ld_block_table = tensors.ld_block_table;
  kernel.kv_heads = shape.kv_heads;
  kernel.group = tensors.heads / shape.kv_heads;
  kernel.softmax_scale = tensors.softmax_scale;
  kernel.output = attention_output(tensors);
}

}  // namespace liquidgemm::cuda
