// Stands in for the parts of xgrammar that are not compiled: its readers of schemas, regular
// expressions, structural tags and Lark grammars, none of which is ever called here, and its log.

#include <stdexcept>

#include "json_schema_converter.h"
#include "lark_converter.h"
#include "regex_converter.h"
#include "structural_tag.h"
#include "support/logging.h"

namespace xgrammar {
namespace {

[[noreturn]] void left_out() { throw std::logic_error("this part of xgrammar is left out"); }

}  // namespace

Grammar JSONSchemaToGrammar(const std::string&, bool, std::optional<int>,
                            std::optional<std::pair<std::string, std::string>>, bool,
                            std::optional<int>, bool, JSONFormat, std::vector<std::string>) {
  left_out();
}

std::string RegexToEBNF(const std::string&, bool) { left_out(); }

Grammar LarkToGrammar(const std::string&, const std::optional<TokenizerInfo>&,
                      const std::vector<NamedGrammar>&) {
  left_out();
}

Result<Grammar, StructuralTagError> StructuralTagToGrammar(const std::string&,
                                                           const std::optional<TokenizerInfo>&) {
  left_out();
}

// A message is the exception's, and what is not fatal is not worth a line for every request.
void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string&, int, int, const std::string&) {}

}  // namespace xgrammar
