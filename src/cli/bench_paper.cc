#include "cli/bench_paper.h"

#include <fmt/format.h>

namespace liquidgemm::cli {
namespace {

constexpr const char* kSource = "LiquidGEMM, arXiv 2509.01229, section 5: LiquidServe, one H800";

}  // namespace

std::string paper_text(const bench::PaperComparison& comparison) {
  const bench::PaperFigure& figure = comparison.figure;
  return fmt::format(
      "The paper's figure ({}; W4A8, INT8 KV,\n{} tokens in, {} out): {} at batch {} gives {:.0f} "
      "tokens/s, {:.2f} of an H800's floor\n({:.0f} tokens/s, from its data sheet's {:.2f} TB/s "
      "and {:.0f} TOPS).\n",
      kSource, bench::kPaperInput, bench::kPaperOutput, figure.preset, figure.batch,
      figure.tokens_per_second, figure.tokens_per_second / comparison.floor_tokens_per_second,
      comparison.floor_tokens_per_second, bench::kH800.read_bytes_per_second / 1e12,
      bench::kH800.int8_operations_per_second / 1e12);
}

json::Object paper_json(const bench::PaperComparison& comparison) {
  const double theirs = comparison.figure.tokens_per_second;
  return {{"source", kSource},
          {"batch_size", comparison.figure.batch},
          {"tokens_per_second", theirs},
          {"h800_floor_tokens_per_second", comparison.floor_tokens_per_second},
          {"h800_floor_share", theirs / comparison.floor_tokens_per_second}};
}

}  // namespace liquidgemm::cli
