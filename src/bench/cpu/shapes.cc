#include "bench/cpu/shapes.h"

#include <array>

namespace liquidgemm::bench::cpu {
namespace {

// The short ones first.
const std::array<Shape, 10> kShapes = {{
    {"4096x4096", 4096, 4096},
    {"11008x4096", 11008, 4096},
    {"576x1536", 576, 1536},
    {"1536x576", 1536, 576},
    {"12288x4096", 12288, 4096},
    {"4096x11008", 4096, 11008},
    {"3072x2048", 3072, 2048},
    {"2048x2048", 2048, 2048},
    {"16384x2048", 16384, 2048},
    {"2048x8192", 2048, 8192},
}};
constexpr std::size_t kShort = 4;
constexpr std::array<std::int64_t, 6> kShortTokens = {1, 2, 8, 32, 64, 512};
constexpr std::array<std::int64_t, 10> kAllTokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

}  // namespace

std::span<const Shape> short_shapes() { return std::span(kShapes).first(kShort); }
std::span<const std::int64_t> short_tokens() { return kShortTokens; }
std::span<const Shape> all_shapes() { return kShapes; }
std::span<const std::int64_t> all_tokens() { return kAllTokens; }

}  // namespace liquidgemm::bench::cpu
