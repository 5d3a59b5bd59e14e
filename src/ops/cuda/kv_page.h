// How the GPU keeps keys and values: pages of 64 tokens.
//
//   page        layer 0 | layer 1 | ...
//   layer       KV head 0 | KV head 1 | ...                 one such part is a head page
//   head page   K [64 tokens][row] | K parameters [64] | V [64 tokens][row] | V parameters [64]
//
// A row is `width` elements, 64 or 128; a smaller head_dim is padded with zeros. K with its
// parameters, V with its own and the head page as a whole are contiguous, 16-byte aligned and
// multiples of 16 bytes: each is one bulk copy.
//
//   element   stored as                           parameters of a token and head
//   f16       binary16                            none
//   bf16      bfloat16                            none
//   int8      code + 128, a byte                  f32 scale;            value = scale * code
//   static    code + 128, a byte                  none; a scale a channel lies elsewhere
//   int4      code + 8, a nibble (-8 <= code)     f16 scale, f16 zero;  value = zero + scale * code
//
// Within a row the dimensions lie in ascending order, but for the nibbles of a 32-bit word of int4:
// dimension i of the word's eight is at nibble i / 2 for even i, 4 + i / 2 for odd i, so that
// (word >> 4 s) & 0x000F000F is the pair (2 s, 2 s + 1).
//
// The 16-byte chunks of K and of V are numbered token after token; chunk c of a token's row lies at
// place (token * chunks + c) XOR a number that depends on the token (key_swizzle, value_swizzle).
// It only exchanges chunks inside 128 bytes, and makes the reads of a warp that wants tensor core
// fragments out of a copy of the page in shared memory free of bank conflicts:
//
//   K   lane (g = lane / 4, t = lane % 4) reads chunks t, t + 4, ... of token 8 i + g
//   V   lane (g, t) reads the g-th eighth of the rows of tokens 16 u + 2 t, + 1, + 8, + 9
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define LIQUIDGEMM_KV_PAGE __host__ __device__ constexpr
#else
#define LIQUIDGEMM_KV_PAGE constexpr
#endif

namespace liquidgemm::cuda {

enum class KvElement { kF16, kBf16, kInt8, kInt8Static, kInt4 };

// Whether elements are numbers of two bytes, and not codes.
LIQUIDGEMM_KV_PAGE bool kv_is_float(KvElement element) {
  return element == KvElement::kF16 || element == KvElement::kBf16;
}
// Whether they are codes of int8, and whether each token and head has a scale of its own.
LIQUIDGEMM_KV_PAGE bool kv_is_int8(KvElement element) {
  return element == KvElement::kInt8 || element == KvElement::kInt8Static;
}
LIQUIDGEMM_KV_PAGE bool kv_has_scales(KvElement element) {
  return element == KvElement::kInt8 || element == KvElement::kInt4;
}

inline constexpr int kKvPageTokens = 64;
inline constexpr int kKvMaxWidth = 128;

// Elements of a row for this head_dim, or 0 where it is refused.
LIQUIDGEMM_KV_PAGE int kv_width(int head_dim) {
  return head_dim < 1 ? 0 : head_dim <= 64 ? 64 : head_dim <= kKvMaxWidth ? kKvMaxWidth : 0;
}

struct KvPageShape {
  KvElement element = KvElement::kF16;
  int width = 0;     // kv_width(head_dim)
  int kv_heads = 0;  // of this page
  int layers = 0;
};

LIQUIDGEMM_KV_PAGE int kv_element_bits(KvElement element) {
  return kv_is_float(element) ? 16 : kv_is_int8(element) ? 8 : 4;
}
LIQUIDGEMM_KV_PAGE int kv_row_bytes(KvElement element, int width) {
  return width * kv_element_bits(element) / 8;
}
// Of one token and head, for K and again for V.
LIQUIDGEMM_KV_PAGE int kv_parameter_bytes(KvElement element) {
  return kv_has_scales(element) ? 4 : 0;
}
// K or V of a head page with its parameters.
LIQUIDGEMM_KV_PAGE int kv_half_bytes(KvElement element, int width) {
  return kKvPageTokens * (kv_row_bytes(element, width) + kv_parameter_bytes(element));
}
LIQUIDGEMM_KV_PAGE int kv_head_page_bytes(KvElement element, int width) {
  return 2 * kv_half_bytes(element, width);
}
LIQUIDGEMM_KV_PAGE std::int64_t kv_page_bytes(const KvPageShape& shape) {
  return std::int64_t{shape.layers} * shape.kv_heads *
         kv_head_page_bytes(shape.element, shape.width);
}
// Where the head page of a layer and head begins within its page.
LIQUIDGEMM_KV_PAGE std::int64_t kv_head_page_offset(const KvPageShape& shape, int layer, int head) {
  return (std::int64_t{layer} * shape.kv_heads + head) *
         kv_head_page_bytes(shape.element, shape.width);
}

// ---- Within a head page, in bytes --------------------------------------------------------------

inline constexpr int kKeyOffset = 0;
LIQUIDGEMM_KV_PAGE int value_offset(KvElement element, int width) {
  return kv_half_bytes(element, width);
}
// The parameter word of a token.
LIQUIDGEMM_KV_PAGE int key_parameter_offset(KvElement element, int width, int token) {
  return kKvPageTokens * kv_row_bytes(element, width) + token * kv_parameter_bytes(element);
}
LIQUIDGEMM_KV_PAGE int value_parameter_offset(KvElement element, int width, int token) {
  return value_offset(element, width) + key_parameter_offset(element, width, token);
}

// What the number of a chunk is XORed with.
LIQUIDGEMM_KV_PAGE int key_swizzle(int row_bytes, int token) {
  return row_bytes >= 128 ? 4 * (token & 1) : 0;
}
LIQUIDGEMM_KV_PAGE int value_swizzle(int row_bytes, int token) {
  const int pair = token >> 1 & 3;
  if (row_bytes == 256) return (pair & 1) | (pair & 2) << 1;
  if (row_bytes == 32) return 2 * (token >> 2 & 1);
  return 2 * pair;
}

// Dimensions in one aligned word, which a writer can store at once: 4 f16 or bf16 in 8 bytes, 4
// int8 in 4 bytes, 8 int4 in 4 bytes.
LIQUIDGEMM_KV_PAGE int kv_word_dimensions(KvElement element) {
  return element == KvElement::kInt4 ? 8 : 4;
}
LIQUIDGEMM_KV_PAGE int kv_word_bytes(KvElement element) { return kv_is_float(element) ? 8 : 4; }

// Where the word begins that holds dimension d of a token's K or V. The word's dimensions follow
// each other from its lowest bits: in ascending order, those of int4 as int4_nibble says.
LIQUIDGEMM_KV_PAGE int key_word_offset(KvElement element, int width, int token, int d) {
  const int row_bytes = kv_row_bytes(element, width);
  const int word = d / kv_word_dimensions(element) * kv_word_bytes(element);
  const int chunk = (token * row_bytes + word) / 16 ^ key_swizzle(row_bytes, token);
  return kKeyOffset + chunk * 16 + word % 16;
}
LIQUIDGEMM_KV_PAGE int value_word_offset(KvElement element, int width, int token, int d) {
  const int row_bytes = kv_row_bytes(element, width);
  const int word = d / kv_word_dimensions(element) * kv_word_bytes(element);
  const int chunk = (token * row_bytes + word) / 16 ^ value_swizzle(row_bytes, token);
  return value_offset(element, width) + chunk * 16 + word % 16;
}

// The nibble of dimension i (0 .. 7) of a word of int4.
LIQUIDGEMM_KV_PAGE int int4_nibble(int i) { return i % 2 * 4 + i / 2; }

// Where dimension d begins within its word, in bits.
LIQUIDGEMM_KV_PAGE int kv_bit_in_word(KvElement element, int d) {
  if (element == KvElement::kInt4) return 4 * int4_nibble(d % 8);
  return d % 4 * kv_element_bits(element);
}

// Bit offset of one element within the head page, for readers that are in no hurry.
LIQUIDGEMM_KV_PAGE std::int64_t key_place(const KvPageShape& shape, int token, int d) {
  return std::int64_t{8} * key_word_offset(shape.element, shape.width, token, d) +
         kv_bit_in_word(shape.element, d);
}
LIQUIDGEMM_KV_PAGE std::int64_t value_place(const KvPageShape& shape, int token, int d) {
  return std::int64_t{8} * value_word_offset(shape.element, shape.width, token, d) +
         kv_bit_in_word(shape.element, d);
}

// ---- Codes to words ----------------------------------------------------------------------------

// Four codes of int8 (-127 .. 127) as they are stored.
LIQUIDGEMM_KV_PAGE std::uint32_t int8_word(const int (&codes)[4]) {
  std::uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= static_cast<std::uint32_t>(codes[i] + 128) << (8 * i);
  return word;
}
// Eight codes of int4 (-8 .. 7) as they are stored.
LIQUIDGEMM_KV_PAGE std::uint32_t int4_word(const int (&codes)[8]) {
  std::uint32_t word = 0;
  for (int i = 0; i < 8; ++i) {
    word |= static_cast<std::uint32_t>(codes[i] + 8) << (4 * int4_nibble(i));
  }
  return word;
}
// Scale in the low half, zero in the high half, both as bits of f16.
LIQUIDGEMM_KV_PAGE std::uint32_t int4_parameters(std::uint16_t scale, std::uint16_t zero) {
  return static_cast<std::uint32_t>(scale) | static_cast<std::uint32_t>(zero) << 16;
}

}  // namespace liquidgemm::cuda
