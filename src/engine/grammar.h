// Answers that must follow a JSON schema, a regular expression or a list of choices.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/token_constraint.h"
#include "liquidgemm/status.h"
#include "model/tokenizer/tokenizer.h"

namespace liquidgemm {

struct GrammarSpec {
  enum class Kind { kJsonObject, kJsonSchema, kRegex, kChoice };
  Kind kind = Kind::kJsonObject;
  std::string text;                  // the schema as JSON text, or the expression
  std::vector<std::string> choices;  // kChoice
};

// What a grammar may cost; a larger one is refused before anything is built from it.
struct GrammarLimits {
  std::size_t max_bytes = 256u << 10;  // of the schema or expression, or of all choices
  std::size_t max_depth = 64;
  std::size_t max_nodes = 20'000;
  std::size_t max_enum_values = 10'000;
  std::size_t cached = 64;  // compiled grammars that are kept for the next request
};

// For one tokenizer. Every function may be called from any thread.
class GrammarCompiler {
 public:
  // `end_tokens` are those that may end an answer that is complete.
  static Result<std::unique_ptr<GrammarCompiler>> create(const Tokenizer& tokenizer,
                                                         std::vector<TokenId> end_tokens,
                                                         const GrammarLimits& limits = {});
  ~GrammarCompiler();

  // A constraint at the beginning of an answer. Errors say what in the schema or expression is
  // wrong, not supported or too large.
  Result<std::shared_ptr<TokenConstraint>> compile(const GrammarSpec& spec);

 private:
  struct State;
  explicit GrammarCompiler(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace liquidgemm
