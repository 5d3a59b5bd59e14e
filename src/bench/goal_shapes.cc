#include "bench/goal_shapes.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace liquidgemm::bench {
namespace {

const std::array<Shape, 11> kGoalShapes = {{
    {"l2-7b.qkv", 12288, 4096},
    {"l2-7b.o", 4096, 4096},
    {"l2-7b.gate_up", 22016, 4096},
    {"l2-7b.down", 4096, 11008},
    {"l3-8b.qkv", 6144, 4096},
    {"l3-8b.gate_up", 28672, 4096},
    {"l3-8b.down", 4096, 14336},
    {"l2-70b.qkv", 10240, 8192},
    {"l2-70b.o", 8192, 8192},
    {"l2-70b.gate_up", 57344, 8192},
    {"l2-70b.down", 8192, 28672},
}};
constexpr std::array<std::int64_t, 12> kGoalTokens = {1,   4,   8,   16,  32,   64,
                                                      128, 192, 256, 512, 1024, 4096};

// One small, one wide, one deep and one large layer.
const std::array<Shape, 4> kShortShapes = {{
    {"l2-7b.o", 4096, 4096},
    {"l3-8b.gate_up", 28672, 4096},
    {"l3-8b.down", 4096, 14336},
    {"l2-70b.gate_up", 57344, 8192},
}};
constexpr std::array<std::int64_t, 6> kShortTokens = {1, 16, 64, 128, 256, 4096};

// Layers large enough that what goes on inside a multiprocessor shows.
const std::array<Shape, 2> kAblationShapes = {{
    {"l2-70b.gate_up", 57344, 8192},
    {"l3-8b.gate_up", 28672, 4096},
}};
constexpr std::array<std::int64_t, 3> kAblationTokens = {16, 64, 128};

// The layers of a 7B model with other widths, and two of larger ones.
const std::array<Shape, 5> kOtherShapes = {{
    {"4608x3584", 4608, 3584},
    {"37888x3584", 37888, 3584},
    {"3584x18944", 3584, 18944},
    {"9216x7168", 9216, 7168},
    {"7168x20480", 7168, 20480},
}};
constexpr std::array<std::int64_t, 15> kBetweenTokens = {2,   3,   12,  17,  24,   48,   96,  160,
                                                         200, 300, 384, 768, 1536, 2048, 3000};

bool parse_number(std::string_view text, std::int64_t& number) {
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

}  // namespace

std::span<const Shape> goal_shapes() { return kGoalShapes; }
std::span<const std::int64_t> goal_tokens() { return kGoalTokens; }
std::span<const Shape> short_shapes() { return kShortShapes; }
std::span<const std::int64_t> short_tokens() { return kShortTokens; }
std::span<const Shape> ablation_shapes() { return kAblationShapes; }
std::span<const std::int64_t> ablation_tokens() { return kAblationTokens; }
std::span<const Shape> other_shapes() { return kOtherShapes; }
std::span<const std::int64_t> between_tokens() { return kBetweenTokens; }

Result<std::vector<Shape>> parse_shape(std::string_view text) {
  std::vector<Shape> shapes;
  if (text == "others") shapes.assign(kOtherShapes.begin(), kOtherShapes.end());
  for (const Shape& shape : kGoalShapes) {
    const std::string_view name = shape.name;
    if (name == text || name.substr(0, name.find('.')) == text) shapes.push_back(shape);
  }
  if (!shapes.empty()) return shapes;
  const std::size_t cross = text.find('x');
  std::int64_t n = 0;
  std::int64_t k = 0;
  if (cross != std::string_view::npos && parse_number(text.substr(0, cross), n) &&
      parse_number(text.substr(cross + 1), k)) {
    constexpr std::int64_t kLargest = std::int64_t{1} << 20;
    if (n < 1 || k < 1 || n > kLargest || k > kLargest) {
      return invalid_argument("shape '" + std::string(text) + "': N and K must be 1 to 1048576");
    }
    shapes.push_back({std::string(text), n, k});
    return shapes;
  }
  std::string names;
  for (const Shape& shape : kGoalShapes) names += (names.empty() ? "" : ", ") + shape.name;
  return invalid_argument("shape '" + std::string(text) +
                          "': expected NxK (for example 4096x14336), a model (l2-7b, l3-8b, "
                          "l2-70b), others or one of " +
                          names);
}

Result<std::vector<std::int64_t>> parse_tokens(std::string_view text) {
  if (text == "between") return std::vector(kBetweenTokens.begin(), kBetweenTokens.end());
  const auto refused = [&](const char* why) {
    return invalid_argument("tokens '" + std::string(text) + "': " + why);
  };
  std::string_view range = text;
  std::int64_t step = 1;
  const std::size_t dash = text.find('-');
  const std::size_t colon = text.find(':');
  bool well_formed = colon == std::string_view::npos || dash < colon;
  if (well_formed && colon != std::string_view::npos) {
    well_formed = parse_number(text.substr(colon + 1), step);
    range = text.substr(0, colon);
  }
  std::int64_t first = 0;
  well_formed = well_formed && parse_number(range.substr(0, dash), first);
  std::int64_t last = first;
  if (well_formed && dash != std::string_view::npos) {
    well_formed = parse_number(range.substr(dash + 1), last);
  }
  if (!well_formed) {
    return refused(
        "expected a number (64), a range (1-512), a range with a step (32-64:8) or between");
  }
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 20;
  if (first < 1 || first > kMostTokens || last < 1 || last > kMostTokens) {
    return refused("must be 1 to 1048576");
  }
  if (last < first) return refused("the range ends before it begins");
  if (step < 1) return refused("the step must be 1 or more");
  constexpr std::int64_t kMostOfOneRange = 4096;
  if ((last - first) / step >= kMostOfOneRange) {
    return refused("more than 4096 token counts; take a larger step");
  }
  std::vector<std::int64_t> tokens;
  for (std::int64_t m = first; m <= last; m += step) {
    tokens.push_back(m);
    if (step > last - m) break;  // the step may be any number: m + step need not fit
  }
  return tokens;
}

double weight_bytes(const Shape& shape, int group_size) {
  const double groups = static_cast<double>((shape.k + group_size - 1) / group_size);
  return static_cast<double>(shape.n) * (static_cast<double>(shape.k) / 2.0 + 2.0 * groups);
}

double floor_seconds(const Shape& shape, std::int64_t m, int group_size, const Ceilings& ceilings) {
  const double operations =
      2.0 * static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
  return std::max(weight_bytes(shape, group_size) / ceilings.read_bytes_per_second,
                  operations / ceilings.int8_operations_per_second);
}

}  // namespace liquidgemm::bench
