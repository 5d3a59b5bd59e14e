// The OpenAI-compatible routes over one model and its engine.
//
// Handlers only queue; a few worker threads parse, render the chat template (which has budgets) and
// tokenize (which is linear), so that a large request delays neither connections nor steps.
// Answers are written on the engine's delivery thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "engine/grammar.h"
#include "model/load.h"
#include "server/answer.h"
#include "server/api_limits.h"
#include "server/http.h"
#include "server/tool_parser.h"

namespace liquidgemm::server {

struct OpenAiOptions {
  std::vector<std::string> served_names;  // at least one; the first is what answers name
  ToolFormat tool_format = ToolFormat::kNone;
  ApiLimits limits = {};
  int workers = 2;
};

class OpenAiApi {
 public:
  // Everything outlives this object, and the model and the engine outlive the answers under way.
  // `grammar` null: structured output is a 400 that says so.
  OpenAiApi(const LoadedModel& model, EngineThread& engine, GrammarCompiler* grammar,
            OpenAiOptions options);
  // Requests that are still being read are dropped; answers under way go on.
  ~OpenAiApi();

  // POST /v1/completions, /v1/chat/completions, /tokenize, /detokenize; GET /v1/models and
  // /v1/models/<name> for each name.
  std::vector<Route> routes();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace liquidgemm::server
