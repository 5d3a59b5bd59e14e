#include "model/checkpoint/block_formats.h"

#include <cstring>

#include "base/half.h"

namespace liquidgemm {
namespace {

constexpr int kBlock = 32;

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T, typename Convert>
void convert_plain(const std::byte* stored, std::int64_t count, float* out, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = convert(load<T>(stored + i * static_cast<std::int64_t>(sizeof(T))));
  }
}

void convert_q8_0(const std::byte* block, float* out) {
  const float d = f16_to_float(load<std::uint16_t>(block));
  for (int i = 0; i < kBlock; ++i) {
    out[i] = d * static_cast<float>(load<std::int8_t>(block + 2 + i));
  }
}

void convert_q4_0(const std::byte* block, float* out) {
  const float d = f16_to_float(load<std::uint16_t>(block));
  for (int i = 0; i < kBlock / 2; ++i) {
    const int codes = load<std::uint8_t>(block + 2 + i);
    out[i] = d * static_cast<float>((codes & 15) - 8);
    out[i + kBlock / 2] = d * static_cast<float>((codes >> 4) - 8);
  }
}

void convert_q4_1(const std::byte* block, float* out) {
  const float d = f16_to_float(load<std::uint16_t>(block));
  const float m = f16_to_float(load<std::uint16_t>(block + 2));
  for (int i = 0; i < kBlock / 2; ++i) {
    const int codes = load<std::uint8_t>(block + 4 + i);
    out[i] = d * static_cast<float>(codes & 15) + m;
    out[i + kBlock / 2] = d * static_cast<float>(codes >> 4) + m;
  }
}

void convert_blocks(DType dtype, const std::byte* stored, std::int64_t count, float* out,
                    void (*convert)(const std::byte*, float*)) {
  const std::int64_t bytes = dtype_block_bytes(dtype);
  for (std::int64_t block = 0; block < count / kBlock; ++block) {
    convert(stored + block * bytes, out + block * kBlock);
  }
}

}  // namespace

bool converts_to_float(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1: return true;
    default: return false;
  }
}

void convert_to_float(DType dtype, const std::byte* stored, std::int64_t count, float* out) {
  switch (dtype) {
    case DType::kF64:
      return convert_plain<double>(stored, count, out,
                                   [](double v) { return static_cast<float>(v); });
    case DType::kF32:
      std::memcpy(out, stored, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case DType::kF16: return convert_plain<std::uint16_t>(stored, count, out, f16_to_float);
    case DType::kBF16: return convert_plain<std::uint16_t>(stored, count, out, bf16_to_float);
    case DType::kQ8_0: return convert_blocks(dtype, stored, count, out, convert_q8_0);
    case DType::kQ4_0: return convert_blocks(dtype, stored, count, out, convert_q4_0);
    case DType::kQ4_1: return convert_blocks(dtype, stored, count, out, convert_q4_1);
    default: return;  // callers ask converts_to_float first
  }
}

}  // namespace liquidgemm
