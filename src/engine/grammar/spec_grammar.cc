#include "engine/grammar/spec_grammar.h"

#include <fmt/format.h>

#include "base/status_macros.h"
#include "engine/grammar/grammar_text.h"
#include "engine/grammar/json_grammar.h"
#include "engine/grammar/literals.h"
#include "engine/grammar/regex_grammar.h"
#include "engine/grammar/schema_grammar.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

Result<std::string> choice_grammar(const std::vector<std::string>& choices,
                                   const GrammarLimits& limits) {
  if (choices.empty()) return invalid_argument("the list of choices is empty");
  if (choices.size() > limits.max_enum_values) {
    return resource_exhausted(fmt::format("there are {} choices, at most {} are accepted",
                                          choices.size(), limits.max_enum_values));
  }
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const std::string& choice = choices[i];
    if (choice.empty()) return invalid_argument(fmt::format("choice {} is empty", i));
    if (!is_valid_utf8(choice) || choice.find('\0') != std::string::npos) {
      return invalid_argument(fmt::format("choice {} is not valid UTF-8 or holds a zero byte", i));
    }
    bytes += choice.size();
    if (bytes > limits.max_bytes) {
      return resource_exhausted(
          fmt::format("the choices have more than {} bytes, which is the limit", limits.max_bytes));
    }
  }
  GrammarText grammar;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string body, one_of(choices, grammar));
  const GrammarText::Rule root = grammar.add(std::move(body));
  return grammar.finish(root);
}

Result<std::string> regex_grammar(const std::string& regex, const GrammarLimits& limits) {
  if (regex.empty()) return invalid_argument("the expression is empty");
  GrammarText grammar;
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      std::string body, regex_expression(regex, RegexInside::kText, limits.max_depth, grammar));
  const GrammarText::Rule root = grammar.add(std::move(body));
  return grammar.finish(root);
}

}  // namespace

Result<std::string> spec_grammar(const GrammarSpec& spec, const GrammarLimits& limits) {
  if (spec.text.size() > limits.max_bytes) {
    return resource_exhausted(
        fmt::format("the {} has {} bytes, at most {} are accepted",
                    spec.kind == GrammarSpec::Kind::kRegex ? "expression" : "schema",
                    spec.text.size(), limits.max_bytes));
  }
  switch (spec.kind) {
    case GrammarSpec::Kind::kJsonObject: return schema_grammar(R"({"type":"object"})", limits);
    case GrammarSpec::Kind::kJsonSchema: return schema_grammar(spec.text, limits);
    case GrammarSpec::Kind::kRegex: return regex_grammar(spec.text, limits);
    case GrammarSpec::Kind::kChoice: return choice_grammar(spec.choices, limits);
  }
  return internal_error("an unknown kind of grammar");
}

}  // namespace liquidgemm
