#include "cli/evaluation.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>

#include "base/mapped_file.h"
#include "base/median.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "cli/interrupt.h"
#include "model/checkpoint/dithered_source.h"
#include "model/cuda_backend.h"
#include "ops/cpu/ops.h"

namespace liquidgemm::cli {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;
constexpr int kSpeedRounds = 3;

double seconds_of(const std::function<Status()>& work, Status& status) {
  const auto start = std::chrono::steady_clock::now();
  status = work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Rows scored in one step: enough to keep the products busy, and at most kLogitsBytes of logits.
std::int64_t rows_to_score(std::int64_t vocabulary) {
  constexpr std::int64_t kLogitsBytes = std::int64_t{24} << 20;
  const auto fitting = kLogitsBytes / (vocabulary * static_cast<std::int64_t>(sizeof(float)));
  return std::clamp<std::int64_t>(fitting / 16 * 16, 16, 128);
}

bool from_quantized(Precision precision) {
  return precision == Precision::kW4A8 || precision == Precision::kW4A16;
}

Result<LoadedModel> load_contender(const Evaluation& evaluation, const EvaluationOptions& options,
                                   Precision precision, const std::string& device) {
  const ModelSource& source = evaluation.source;
  ModelOptions model = options.model;
  model.device = device;
  LIQUIDGEMM_ASSIGN_OR_RETURN(LoadOptions load, load_options(model, precision, source.config));
  load.group_size = group_size_for(options.group_size, source.config);
  // Dithered weights are not the checkpoint's.
  if (options.dither) load.cache_packed_weights = false;
  load.limits.max_position =
      std::min(std::max(options.context, kSpeedPrompt), source.config.max_position);
  load.limits.max_rows = std::min<std::int64_t>(load.limits.max_position, 256);
  load.limits.max_logits_rows =
      std::min(load.limits.max_rows, rows_to_score(source.config.vocab_size));
  const bool stored = evaluation.quantized && from_quantized(precision);
  return load_with_progress(stored ? *evaluation.quantized : source, load);
}

}  // namespace

Result<Evaluation> load_evaluation(const EvaluationOptions& options) {
  Evaluation evaluation;
  // The text first: a wrong name should not cost a load.
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.text, kMaxTextBytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(evaluation.source, open_source(options.model.model));
  ModelSource& source = evaluation.source;
  if (!options.quantized.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(ModelSource quantized, open_source(options.quantized));
    if (!quantized.config.quantization) {
      return invalid_argument(options.quantized + ": not a LiquidQuant checkpoint");
    }
    evaluation.quantized = std::move(quantized);
  }
  if (options.dither) {
    if (source.config.quantization) {
      return invalid_argument(source.path + ": already quantized; --dither takes the original");
    }
    source.tensors = dither(std::move(source.tensors), *options.dither);
  }
  std::vector<std::string> names = options.precisions;
  if (names.empty()) {
    names = source.config.quantization ? std::vector<std::string>{"auto"}
                                       : std::vector<std::string>{"fp32", "w8a8", "w4a16", "w4a8"};
  }
  const bool beside = options.beside && options.model.device == "auto";
  if (beside && !options.model.isa.empty()) {
    evaluation.without_gpu = "--isa chooses the CPU";
  } else if (beside) {
    if (const Status usable = cuda_usable(); !usable.ok()) {
      evaluation.without_gpu = usable.message();
    }
  }
  const bool gpu_too = beside && evaluation.without_gpu.empty();
  const std::vector<std::string> devices =
      gpu_too ? std::vector<std::string>{"cpu", "cuda"} : std::vector{options.model.device};
  std::string not_on_gpu;
  bool any_on_gpu = false;
  for (const std::string& name : names) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(const Precision precision, parse_precision(name));
    Evaluation::Contender contender{.precision = precision, .cpu = {}, .gpu = {}};
    Status refused;
    for (const std::string& device : devices) {
      auto model = load_contender(evaluation, options, precision, device);
      // What one of the two does not run stands in the other's columns alone.
      if (gpu_too && model.status().code() == StatusCode::kUnsupported) {
        refused = model.status();
        continue;
      }
      if (!model.ok()) return model.status();
      contender.precision = model->precision;
      (model->on_gpu ? contender.gpu : contender.cpu) = evaluation.models.size();
      evaluation.models.push_back(std::move(*model));
    }
    if (!contender.cpu && !contender.gpu) return refused;
    if (gpu_too && !contender.gpu) not_on_gpu = refused.message();
    any_on_gpu = any_on_gpu || contender.gpu;
    evaluation.contenders.push_back(contender);
  }
  if (!any_on_gpu && evaluation.without_gpu.empty()) evaluation.without_gpu = not_on_gpu;
  evaluation.tokens =
      evaluation.models.front().tokenizer->encode(text, /*add_special_tokens=*/false);
  if (evaluation.tokens.size() < 2) {
    return invalid_argument(options.text + ": " + std::to_string(evaluation.tokens.size()) +
                            " tokens of text, expected at least 2");
  }
  return evaluation;
}

Result<std::vector<PerplexityRow>> measure_quality(Evaluation& evaluation,
                                                   const EvaluationOptions& options) {
  std::vector<Backend*> backends;
  for (const LoadedModel& model : evaluation.models) backends.push_back(model.backend.get());
  // Whole windows are scored, all but the first token of each.
  const std::int64_t window = options.context - 1;
  const std::int64_t wanted = (options.tokens + window - 1) / window * window;
  const auto available = static_cast<std::int64_t>(evaluation.tokens.size());
  Progress progress("Scoring", std::min(wanted, available), "tokens");
  auto rows = measure_perplexity(
      backends, evaluation.tokens, {.tokens = options.tokens, .context = options.context},
      *evaluation.models.front().pool, [&](std::int64_t count) { progress.advance(count); },
      interrupt_flag());
  if (!rows.ok()) return rows.status();
  progress.finish();
  return rows;
}

Result<Speed> measure_speed(LoadedModel& model, const std::vector<TokenId>& tokens) {
  Backend& backend = *model.backend;
  const BackendLimits& limits = backend.limits();
  const auto available = static_cast<std::int64_t>(tokens.size());
  const std::int64_t prompt = std::min({kSpeedPrompt, available, limits.max_position});
  const std::int64_t answer = std::min({kSpeedAnswer, prompt, limits.max_position - 1});
  std::vector<std::int32_t> pages(static_cast<std::size_t>(pages_for(limits.max_position)));
  std::iota(pages.begin(), pages.end(), 0);
  // Feeds tokens [first, last) in chunks. A token is drawn after the last of them, or with
  // `each` after every chunk.
  const auto feed = [&](std::int64_t first, std::int64_t last, std::int64_t chunk,
                        bool each) -> Status {
    for (std::int64_t at = first; at < last; at += chunk) {
      if (interrupt_flag()) return cancelled("interrupted");
      const std::int64_t count = std::min(chunk, last - at);
      const SequenceRows sequence{.first_row = 0,
                                  .rows = static_cast<std::int32_t>(count),
                                  .context = static_cast<std::int32_t>(at),
                                  .pages = pages};
      const auto last_row = static_cast<std::int32_t>(count - 1);
      SampleRow sample;
      sample.params.temperature = 0.0f;
      sample.position = static_cast<std::uint64_t>(at + count);
      const std::size_t drawn = each || at + count == last ? 1 : 0;
      LIQUIDGEMM_RETURN_IF_ERROR(
          backend.step({.tokens = std::span(tokens).subspan(static_cast<std::size_t>(at),
                                                            static_cast<std::size_t>(count)),
                        .sequences = {&sequence, 1},
                        .logits_rows = std::span(&last_row, drawn),
                        .samples = std::span(&sample, drawn)}));
    }
    return ok_status();
  };
  std::vector<double> prompt_seconds;
  std::vector<double> answer_seconds;
  for (int round = 0; round < kSpeedRounds; ++round) {
    Status status;
    prompt_seconds.push_back(
        seconds_of([&] { return feed(0, prompt, limits.max_rows, false); }, status));
    LIQUIDGEMM_RETURN_IF_ERROR(status);
    // One row and one token a step, as generation does; what is fed are the text's tokens, so that
    // every precision does the same work.
    answer_seconds.push_back(seconds_of([&] { return feed(0, answer, 1, true); }, status));
    LIQUIDGEMM_RETURN_IF_ERROR(status);
  }
  return Speed{.prompt = static_cast<double>(prompt) / median(prompt_seconds),
               .generation = static_cast<double>(answer) / median(answer_seconds)};
}

}  // namespace liquidgemm::cli
