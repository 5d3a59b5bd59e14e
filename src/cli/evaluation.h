// Several precisions of one model, loaded side by side and measured.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "engine/perplexity.h"

namespace liquidgemm::cli {

struct EvaluationOptions {
  ModelOptions model;
  std::string quantized;                // a LiquidQuant folder for w4a8 and w4a16; may be empty
  std::vector<std::string> precisions;  // empty: all that MODEL gives
  std::string text;                     // file
  std::string group_size = "auto";      // for what is quantized while loading
  std::int64_t tokens = 4096;
  std::int64_t context = 512;
  std::optional<std::uint64_t> dither;  // seed
  // With --device auto: what the CPU runs, and beside it what a GPU runs.
  bool beside = false;
};

struct Speed {
  double prompt = 0.0;      // tokens/s, a prompt of kSpeedPrompt tokens
  double generation = 0.0;  // tokens/s, kSpeedAnswer tokens after a short prompt
};
inline constexpr std::int64_t kSpeedPrompt = 512;
inline constexpr std::int64_t kSpeedAnswer = 64;

struct Evaluation {
  // One precision: its places in `models`.
  struct Contender {
    Precision precision;
    std::optional<std::size_t> cpu, gpu;  // at least one
  };
  ModelSource source;
  std::optional<ModelSource> quantized;
  std::vector<LoadedModel> models;
  std::vector<Contender> contenders;
  std::string without_gpu;      // why none is beside the CPU; empty: one is, or was not asked for
  std::vector<TokenId> tokens;  // the text's
};

// Loads every precision; the first is the reference of the comparison.
Result<Evaluation> load_evaluation(const EvaluationOptions& options);
Result<std::vector<PerplexityRow>> measure_quality(Evaluation& evaluation,
                                                   const EvaluationOptions& options);
// The median of three runs each.
Result<Speed> measure_speed(LoadedModel& model, const std::vector<TokenId>& tokens);

}  // namespace liquidgemm::cli
