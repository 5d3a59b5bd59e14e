#include "gemm/cpu/packed_activations.h"

#include <algorithm>
#include <cstring>

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kWord = 4;  // k of one word of integers

// Calls visit(first token of the tile, its height T, token in the tile, k, end) for every token of
// every tile, in steps of kPackStep so that what is written between two steps stays in L1.
template <typename Visit>
void for_each_step(const ActivationTiles& tiles, std::int64_t k_begin, std::int64_t k_end,
                   Visit visit) {
  for (std::int64_t tile = 0; tile < tiles.tiles; ++tile) {
    const std::int64_t begin = tiles.begin(tile);
    const std::int64_t height = tiles.begin(tile + 1) - begin;
    for (std::int64_t k = k_begin; k < k_end; k += kPackStep) {
      const std::int64_t end = std::min(k + kPackStep, k_end);
      for (std::int64_t t = 0; t < height; ++t) visit(begin, height, t, k, end);
    }
  }
}

inline void copy_word(const std::int8_t* from, std::int8_t* to) { std::memcpy(to, from, kWord); }
inline void copy_word(const std::int8_t* from, std::int16_t* to) {
  std::int16_t word[kWord];
  for (int i = 0; i < kWord; ++i) word[i] = from[i];
  std::memcpy(to, word, sizeof word);
}

// Out is std::int8_t or std::int16_t.
template <typename Out>
void pack_words(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, Out* packed) {
  for_each_step(tiles, k_begin, k_end, [&](auto begin, auto height, auto t, auto k, auto end) {
    const std::int8_t* row = x + (begin + t) * ld;
    Out* tile = packed + begin * tiles.k_padded + t * kWord;
    const std::int64_t whole = std::min(end, tiles.k / kWord * kWord);
    for (; k < whole; k += kWord) copy_word(row + k, tile + k * height);
    for (; k < end; k += kWord) {
      std::int8_t last[kWord];
      for (int i = 0; i < kWord; ++i) last[i] = k + i < tiles.k ? row[k + i] : std::int8_t{0};
      copy_word(last, tile + k * height);
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
  for_each_step(tiles, k_begin, k_end, [&](auto begin, auto height, auto t, auto k, auto end) {
    const std::int8_t* row = x + (begin + t) * ld;
    std::int16_t* tile = sums + begin * groups + t;
    end = std::min(end, tiles.k);
    for (; k < end; k += group_size) {
      std::int32_t sum = 0;
      for (std::int64_t i = k; i < std::min(k + group_size, end); ++i) sum += row[i];
      tile[k / group_size * height] = static_cast<std::int16_t>(sum);
    }
  });
}

void pack_float(const ActivationTiles& tiles, const float* x, std::int64_t ld, std::int64_t k_begin,
                std::int64_t k_end, float* packed) {
  for_each_step(tiles, k_begin, k_end, [&](auto begin, auto height, auto t, auto k, auto end) {
    const float* row = x + (begin + t) * ld;
    float* tile = packed + begin * tiles.k + t;
    for (; k < end; ++k) tile[k * height] = row[k];
  });
}

}  // namespace liquidgemm::cpu
