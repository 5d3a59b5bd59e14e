#include "model/load.h"

#include <algorithm>

#include "base/status_macros.h"
#include "model/cpu_backend.h"

namespace liquidgemm {
namespace {

Status add_text(const ModelSource& source, LoadedModel& model) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::build(source.tokenizer, source.path));
  if (tokenizer.vocabulary_size() > source.config.vocab_size) {
    return corrupt(
        source.path + ": the tokenizer has ids up to " +
        std::to_string(tokenizer.vocabulary_size() - 1) + ", but the model's vocabulary ends at " +
        std::to_string(source.config.vocab_size - 1) + " (config.json: field \"vocab_size\")");
  }
  model.tokenizer = std::make_unique<Tokenizer>(std::move(tokenizer));
  if (!source.chat_template.empty()) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(ChatTemplate chat_template,
                                ChatTemplate::parse(source.chat_template, source.path));
    model.chat_template = std::make_unique<ChatTemplate>(std::move(chat_template));
  }
  return ok_status();
}

}  // namespace

Result<LoadedModel> load_model(const ModelSource& source, const LoadOptions& options) {
  const Isa isa = options.isa.value_or(best_isa());
  LIQUIDGEMM_RETURN_IF_ERROR(check_isa(isa));

  LoadedModel model;
  model.path = source.path;
  model.config = source.config;
  model.generation = source.generation;
  model.bos_token = source.bos_token;
  model.eos_token = source.eos_token;
  if (options.text) LIQUIDGEMM_RETURN_IF_ERROR(add_text(source, model));

  model.pool = std::make_unique<ThreadPool>(options.threads);
  LIQUIDGEMM_ASSIGN_OR_RETURN(WeightLoader weights,
                              WeightLoader::create(source, options.precision, options.group_size,
                                                   options.step_rule, *model.pool));
  model.precision = weights.precision();
  weights.set_report(options.report);

  BackendLimits limits = options.limits;
  if (limits.max_position <= 0) limits.max_position = source.config.max_position;
  limits.max_position = std::min(limits.max_position, source.config.max_position);
  if (limits.pages <= 0) {
    // Every sequence of a step at its longest.
    limits.pages = pages_for(limits.max_position) * limits.max_sequences;
  }
  auto backend = std::make_unique<CpuBackend>(isa, *model.pool);
  LIQUIDGEMM_RETURN_IF_ERROR(backend->plan(build_graph(source.config), weights, limits));
  model.backend = std::move(backend);
  return model;
}

}  // namespace liquidgemm
