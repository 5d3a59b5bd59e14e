#include "gemm/cpu/packed_activations.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/half.h"

namespace liquidgemm::cpu {
namespace {

constexpr std::int64_t kWord = 4;  // k of one word of integers

// A stretch of k (kPackStep or less, so that what is written stays in L1) of one tile or quad.
struct Step {
  std::int64_t token0;
  std::int64_t height;  // its tokens
  std::int64_t k;
  std::int64_t end;
};

// Of tiles cut after each `most` tokens.
template <typename Visit>
void for_each_step(const ActivationTiles& tiles, std::int64_t most, std::int64_t k_begin,
                   std::int64_t k_end, Visit visit) {
  for (std::int64_t tile = 0; tile < tiles.tiles; ++tile) {
    const std::int64_t end = tiles.begin(tile + 1);
    for (std::int64_t token = tiles.begin(tile); token < end; token += most) {
      if (token < tiles.first || token >= tiles.last) continue;
      const std::int64_t height = std::min(most, end - token);
      for (std::int64_t k = k_begin; k < k_end; k += kPackStep) {
        visit(Step{token, height, k, std::min(k + kPackStep, k_end)});
      }
    }
  }
}

template <typename Visit>
void for_each_step(const ActivationTiles& tiles, std::int64_t k_begin, std::int64_t k_end,
                   Visit visit) {
  for_each_step(tiles, tiles.m, k_begin, k_end, visit);
}

// Interleaves words of 4 bytes, whatever they hold: word w of token t of a step goes to
// to[w * height + t]. Rows are `stride` bytes apart.
using FourWords = std::uint32_t __attribute__((vector_size(16)));

FourWords load_words(const std::byte* from) {
  FourWords words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

void store_words(std::byte* to, FourWords words) { std::memcpy(to, &words, sizeof words); }

void interleave_words(const std::byte* from, std::int64_t stride, std::int64_t height,
                      std::int64_t words, std::byte* to) {
  std::int64_t t = 0;
  // Squares of 4 tokens x 4 words are transposed in registers.
  for (; t + 4 <= height; t += 4) {
    const std::byte* row = from + t * stride;
    std::int64_t w = 0;
    for (; w + 4 <= words; w += 4) {
      const FourWords a = load_words(row + 4 * w);
      const FourWords b = load_words(row + stride + 4 * w);
      const FourWords c = load_words(row + 2 * stride + 4 * w);
      const FourWords d = load_words(row + 3 * stride + 4 * w);
      const FourWords ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const FourWords ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const FourWords cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
      const FourWords cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      std::byte* out = to + 4 * (w * height + t);
      store_words(out, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
      store_words(out + 4 * height, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
      store_words(out + 8 * height, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
      store_words(out + 12 * height, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
    }
    for (; w < words; ++w) {
      for (std::int64_t i = 0; i < 4; ++i) {
        std::memcpy(to + 4 * (w * height + t + i), row + i * stride + 4 * w, 4);
      }
    }
  }
  for (; t < height; ++t) {
    for (std::int64_t w = 0; w < words; ++w) {
      std::memcpy(to + 4 * (w * height + t), from + t * stride + 4 * w, 4);
    }
  }
}

// The sum of `count` values, 128 of them or fewer: eight at a time, as unsigned 16-bit sums of
// their codes + 128.
std::int32_t sum_of(const std::int8_t* x, std::int64_t count) {
  constexpr std::uint64_t kLow = 0x00FF00FF00FF00FF;
  std::uint64_t sums = 0;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, x + i, sizeof eight);
    eight ^= 0x8080808080808080;
    sums += (eight & kLow) + (eight >> 8 & kLow);
  }
  auto sum = static_cast<std::int32_t>(sums * 0x0001000100010001 >> 48) -
             static_cast<std::int32_t>(128 * i);
  for (; i < count; ++i) sum += x[i];
  return sum;
}

// The words past the last whole one: what there is of it, then zeros.
template <typename Out>
void pack_end(const ActivationTiles& tiles, const Step& step, std::int64_t k, const std::int8_t* x,
              std::int64_t ld, Out* packed) {
  for (; k < step.end; k += kWord) {
    for (std::int64_t t = 0; t < step.height; ++t) {
      const std::int8_t* row = x + (step.token0 + t) * ld;
      Out* word = packed + step.token0 * tiles.k_padded + k * step.height + t * kWord;
      for (int i = 0; i < kWord; ++i) word[i] = k + i < tiles.k ? row[k + i] : 0;
    }
  }
}

}  // namespace

void pack_int8(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
               std::int64_t k_begin, std::int64_t k_end, std::int8_t* packed) {
  for_each_step(tiles, kQuad, k_begin, k_end, [&](const Step& step) {
    const std::int64_t whole = std::min(step.end, tiles.k / kWord * kWord);
    const std::int64_t words = std::max<std::int64_t>(whole - step.k, 0) / kWord;
    std::int8_t* to = packed + step.token0 * tiles.k_padded + step.k * step.height;
    interleave_words(reinterpret_cast<const std::byte*>(x + step.token0 * ld + step.k), ld,
                     step.height, words, reinterpret_cast<std::byte*>(to));
    pack_end(tiles, step, step.k + words * kWord, x, ld, packed);
  });
}

void pack_int16(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, std::int16_t* packed) {
  for_each_step(tiles, k_begin, k_end, [&](const Step& step) {
    const std::int64_t whole = std::min(step.end, tiles.k / kWord * kWord);
    for (std::int64_t t = 0; t < step.height; ++t) {
      const std::int8_t* row = x + (step.token0 + t) * ld;
      std::int16_t* tile = packed + step.token0 * tiles.k_padded + t * kWord;
      for (std::int64_t k = step.k; k < whole; k += kWord) {
        std::int16_t word[kWord];
        for (int i = 0; i < kWord; ++i) word[i] = row[k + i];
        std::memcpy(tile + k * step.height, word, sizeof word);
      }
    }
    pack_end(tiles, step, std::max(whole, step.k), x, ld, packed);
  });
}

void pack_lines(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                std::int64_t k_begin, std::int64_t k_end, std::int8_t* packed) {
  for (std::int64_t tile = 0; tile < tiles.tiles; ++tile) {
    const std::int64_t token0 = tiles.begin(tile);
    const std::int64_t height = tiles.begin(tile + 1) - token0;
    const std::int64_t end = std::min(token0 + height, tiles.last);
    for (std::int64_t token = std::max(token0, tiles.first); token < end; ++token) {
      const std::int8_t* row = x + token * ld;
      std::int8_t* to = packed + token0 * tiles.k_padded + (token - token0) * kLine;
      for (std::int64_t k = k_begin; k < k_end; k += kLine) {
        std::int8_t* line = to + k * height;
        const std::int64_t there = std::min(kLine, tiles.k - k);
        if (there == kLine) {
          std::memcpy(line, row + k, kLine);
        } else {
          std::memcpy(line, row + k, static_cast<std::size_t>(there));
          std::memset(line + there, 0, static_cast<std::size_t>(kLine - there));
        }
      }
    }
  }
}

void pack_group_sums(const ActivationTiles& tiles, const std::int8_t* x, std::int64_t ld,
                     int group_size, std::int64_t k_begin, std::int64_t k_end, std::int16_t* sums) {
  const std::int64_t groups = (tiles.k + group_size - 1) / group_size;
  for_each_step(tiles, k_begin, k_end, [&](const Step& step) {
    const std::int64_t end = std::min(step.end, tiles.k);
    for (std::int64_t t = 0; t < step.height; ++t) {
      const std::int8_t* row = x + (step.token0 + t) * ld;
      std::int16_t* tile = sums + step.token0 * groups + t;
      for (std::int64_t k = step.k; k < end; k += group_size) {
        const std::int64_t group_end = std::min(k + group_size, end);
        tile[k / group_size * step.height] =
            static_cast<std::int16_t>(sum_of(row + k, group_end - k));
      }
    }
  });
}

void pack_float(const ActivationTiles& tiles, const float* x, std::int64_t ld, std::int64_t k_begin,
                std::int64_t k_end, float* packed) {
  for_each_step(tiles, k_begin, k_end, [&](const Step& step) {
    float* to = packed + step.token0 * tiles.k + step.k * step.height;
    interleave_words(reinterpret_cast<const std::byte*>(x + step.token0 * ld + step.k),
                     ld * std::int64_t{sizeof(float)}, step.height, step.end - step.k,
                     reinterpret_cast<std::byte*>(to));
  });
}

void round_to_fp16(const ActivationTiles& tiles, std::int64_t k_begin, std::int64_t k_end,
                   float* packed) {
  for_each_step(tiles, k_begin, k_end, [&](const Step& step) {
    float* values = packed + step.token0 * tiles.k + step.k * step.height;
    for (std::int64_t i = 0; i < (step.end - step.k) * step.height; ++i) {
      values[i] = f16_to_float(float_to_f16(values[i]));
    }
  });
}

}  // namespace liquidgemm::cpu
