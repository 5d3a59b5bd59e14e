#include "gemm/cpu/packed_activations.h"

#include <algorithm>
#include <cstring>

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kWord = 4;  // k of one word of integers

// Calls row(source row, T, token in tile, packed tile) for every token of every tile.
template <typename Visit>
void for_each_row(const ActivationTiles& tiles, Visit visit) {
  for (std::int64_t tile = 0; tile < tiles.tiles; ++tile) {
    const std::int64_t begin = tiles.begin(tile);
    const std::int64_t height = tiles.begin(tile + 1) - begin;
    for (std::int64_t t = 0; t < height; ++t) visit(begin, height, t);
  }
}

// Out is std::int8_t or std::int16_t.
template <typename Out>
void pack_words(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, Out* packed) {
  for_each_row(tiles, [&](std::int64_t begin, std::int64_t height, std::int64_t t) {
    const std::int8_t* row = x + (begin + t) * ld;
    Out* tile = packed + begin * tiles.k_padded + t * kWord;
    std::int64_t k = k_begin;
    for (; k + kWord <= std::min(k_end, tiles.k); k += kWord) {
      Out* word = tile + k * height;
      for (int i = 0; i < kWord; ++i) word[i] = row[k + i];
    }
    for (; k < k_end; k += kWord) {
      Out* word = tile + k * height;
      for (int i = 0; i < kWord; ++i) word[i] = k + i < tiles.k ? row[k + i] : 0;
    }
  });
}

}  // namespace

void pack_int8(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
               std::int64_t k_begin, std::int64_t k_end, std::int8_t* packed) {
  pack_words(tiles, x, ld, k_begin, k_end, packed);
}

void pack_int16(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, std::int16_t* packed) {
  pack_words(tiles, x, ld, k_begin, k_end, packed);
}

void pack_group_sums(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                     int group_size, std::int64_t k_begin, std::int64_t k_end, std::int16_t* sums) {
  const std::int64_t groups = (tiles.k + group_size - 1) / group_size;
  for_each_row(tiles, [&](std::int64_t begin, std::int64_t height, std::int64_t t) {
    const std::int8_t* row = x + (begin + t) * ld;
    std::int16_t* tile = sums + begin * groups + t;
    for (std::int64_t k = k_begin; k < std::min(k_end, tiles.k); k += group_size) {
      const std::int64_t end = std::min(k + group_size, tiles.k);
      std::int32_t sum = 0;
      for (std::int64_t i = k; i < end; ++i) sum += row[i];
      tile[k / group_size * height] = static_cast<std::int16_t>(sum);
    }
  });
}

void pack_float(const ActivationTiles& tiles, const float* x, std::int64_t ld, std::int64_t k_begin,
                std::int64_t k_end, float* packed) {
  for_each_row(tiles, [&](std::int64_t begin, std::int64_t height, std::int64_t t) {
    const float* row = x + (begin + t) * ld;
    float* tile = packed + begin * tiles.k + t;
    for (std::int64_t k = k_begin; k < k_end; ++k) tile[k * height] = row[k];
  });
}

}  // namespace liquidgemm::cpu
