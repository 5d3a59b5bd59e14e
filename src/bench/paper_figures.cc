#include "bench/paper_figures.h"

#include <array>

#include "bench/step_floor.h"

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

std::optional<PaperComparison> compare_with_paper(const ModelGraph& graph, std::string_view preset,
                                                  std::int64_t batch) {
  const auto figure = paper_figure(preset, batch);
  if (!figure) return std::nullopt;
  const auto requests = static_cast<double>(batch);
  const StepLoad load{.batch = batch,
                      .context_tokens = requests * (kPaperInput + 0.5 * kPaperOutput),
                      .kv_token_bytes = int8_kv_token_bytes(graph.config)};
  return PaperComparison{*figure, requests / floor_seconds(step_floor(graph, load, kH800))};
}

}  // namespace liquidgemm::bench
