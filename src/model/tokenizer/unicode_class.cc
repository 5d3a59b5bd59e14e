#include "model/tokenizer/unicode_class.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace liquidgemm {
namespace {

struct Range {
  std::uint32_t first;
  std::uint8_t classes;
};

constexpr Range kRanges[] = {
#include "model/tokenizer/unicode_classes.inc"
};

std::uint8_t search(char32_t code_point) {
  const auto* after =
      std::upper_bound(std::begin(kRanges), std::end(kRanges), code_point,
                       [](char32_t value, const Range& range) { return value < range.first; });
  return std::prev(after)->classes;
}

// Most text is below U+0800: one look instead of a search.
constexpr std::size_t kDirect = 0x800;

std::array<std::uint8_t, kDirect> make_direct() {
  std::array<std::uint8_t, kDirect> table{};
  for (std::size_t i = 0; i < kDirect; ++i) table[i] = search(static_cast<char32_t>(i));
  return table;
}

}  // namespace

std::uint8_t unicode_class(char32_t code_point) {
  static const std::array<std::uint8_t, kDirect> direct = make_direct();
  if (code_point < kDirect) return direct[code_point];
  return code_point > 0x10ffff ? 0 : search(code_point);
}

}  // namespace liquidgemm
