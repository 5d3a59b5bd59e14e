#include "bench/paper_figures.h"

#include <array>

namespace liquidgemm::bench {
namespace {

constexpr std::array<PaperFigure, 4> kFigures = {{
    {"llama2-7b", 194, 6721.0},
    {"llama2-13b", 119, 4105.0},
    {"llama2-70b", 184, 3695.0},
    {"llama3-8b", 256, 16694.0},
}};

}  // namespace

std::optional<PaperFigure> paper_figure(std::string_view preset, std::int64_t batch) {
  for (const PaperFigure& figure : kFigures) {
    if (figure.preset == preset && figure.batch == batch) return figure;
  }
  return std::nullopt;
}

}  // namespace liquidgemm::bench
