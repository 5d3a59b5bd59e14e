// GrammarCompiler in a build without xgrammar.

#include "engine/grammar.h"

namespace liquidgemm {

struct GrammarCompiler::State {};

GrammarCompiler::GrammarCompiler(std::unique_ptr<State> state) : state_(std::move(state)) {}
GrammarCompiler::~GrammarCompiler() = default;

Result<std::unique_ptr<GrammarCompiler>> GrammarCompiler::create(const Tokenizer&,
                                                                 std::vector<TokenId>,
                                                                 const GrammarLimits&) {
  return unsupported(
      "this build has no structured output: xgrammar's source was not there when it was configured "
      "(docs/structured-output.md)");
}

Result<std::shared_ptr<TokenConstraint>> GrammarCompiler::compile(const GrammarSpec&) {
  return unsupported("this build has no structured output");
}

}  // namespace liquidgemm
