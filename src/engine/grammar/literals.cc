#include "engine/grammar/literals.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "base/status_macros.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

// More branching points than this on one text's way make the parser's stack too deep.
constexpr std::size_t kMaxDepth = 200;

// The length of what both begin with, in whole characters.
std::size_t common_prefix(std::string_view a, std::string_view b) {
  std::size_t i = 0;
  while (i < a.size() && i < b.size()) {
    const CodePoint c = code_point_at(a, i);
    if (b.substr(i, c.length) != a.substr(i, c.length)) break;
    i += c.length;
  }
  return i;
}

// `texts` are sorted, different and agree in their first `from` bytes.
Result<std::string> branch(std::span<const std::string> texts, std::size_t from, std::size_t depth,
                           GrammarText& grammar) {
  if (depth > kMaxDepth) {
    return resource_exhausted("too many of the values are beginnings of each other");
  }
  std::vector<std::string> choices;
  std::size_t first = 0;
  if (texts.front().size() == from) {
    choices.emplace_back("\"\"");
    first = 1;
  }
  while (first < texts.size()) {
    const std::string& text = texts[first];
    const std::string_view head =
        std::string_view(text).substr(from, code_point_at(text, from).length);
    std::size_t last = first + 1;
    while (last < texts.size() && texts[last].compare(from, head.size(), head) == 0) ++last;
    const std::size_t shared = common_prefix(text, texts[last - 1]);
    LIQUIDGEMM_RETURN_IF_ERROR(grammar.spend(static_cast<std::int64_t>(shared - from)));
    std::string choice = GrammarText::literal(std::string_view(text).substr(from, shared - from));
    if (last - first > 1) {
      LIQUIDGEMM_ASSIGN_OR_RETURN(const std::string rest, branch(texts.subspan(first, last - first),
                                                                 shared, depth + 1, grammar));
      choice += " " + rest;
    }
    choices.push_back(std::move(choice));
    first = last;
  }
  if (choices.size() == 1) return choices.front();
  return GrammarText::reference(grammar.add(GrammarText::choice(choices)));
}

}  // namespace

Result<std::string> one_of(std::vector<std::string> texts, GrammarText& grammar) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  return branch(texts, 0, 0, grammar);
}

}  // namespace liquidgemm
