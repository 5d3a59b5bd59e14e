// What the LiquidGEMM paper reports for whole models (arXiv 2509.01229, section 5): LiquidServe on
// one H800 with 80 GB, W4A8 with INT8 KV, 1,024 tokens in and 512 out, the best of its batches.
// Figures of another system on another chip, for orientation; no code of it is published.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "bench/goal_shapes.h"
#include "model/graph.h"

namespace liquidgemm::bench {

struct PaperFigure {
  std::string_view preset;
  std::int64_t batch = 0;
  double tokens_per_second = 0.0;
};

inline constexpr std::int64_t kPaperInput = 1024;
inline constexpr std::int64_t kPaperOutput = 512;

// Of the models whose batch is known; nothing for another model or batch.
std::optional<PaperFigure> paper_figure(std::string_view preset, std::int64_t batch);

// An H800's data sheet: no ceiling of it was measured.
inline constexpr Ceilings kH800{3.35e12, 1979e12};

// The figure, and what a decode step of this model and batch cannot beat on an H800 at the mean
// context: with INT8 keys and values and this graph's weights.
struct PaperComparison {
  PaperFigure figure;
  double floor_tokens_per_second = 0.0;
};
std::optional<PaperComparison> compare_with_paper(const ModelGraph& graph, std::string_view preset,
                                                  std::int64_t batch);

}  // namespace liquidgemm::bench
