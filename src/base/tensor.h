// What a tensor in a file is: its element type, its shape and its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace liquidgemm {

// Element types of safetensors and of GGUF. The block types hold 32 elements along the last
// dimension: q8_0 = {f16 d; i8 q[32]}, q4_0 = {f16 d; u8 q[16]}, q4_1 = {f16 d, m; u8 q[16]}.
enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kQ8_0,
  kQ4_0,
  kQ4_1,
};

std::string_view dtype_name(DType dtype);  // "F32", "BF16", "Q4_1", ...
// Elements of one block (1 for the plain types) and its bytes.
std::int64_t dtype_block_elements(DType dtype);
std::int64_t dtype_block_bytes(DType dtype);

using Shape = std::vector<std::int64_t>;
std::string shape_string(const Shape& shape);  // "[4096, 11008]"
// The product of the dimensions; nothing when one is negative or the product overflows.
std::optional<std::int64_t> element_count(const Shape& shape);
// Bytes of a row-major tensor; nothing on overflow or when the last dimension is not whole blocks.
std::optional<std::int64_t> tensor_bytes(DType dtype, const Shape& shape);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;             // row-major, outermost first: a linear layer is [N, K]
  std::int64_t bytes = 0;  // as stored
};

}  // namespace liquidgemm
