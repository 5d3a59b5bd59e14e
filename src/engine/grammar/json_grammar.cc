#include "engine/grammar/json_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/json.h"
#include "base/status_macros.h"
#include "engine/grammar/number_range.h"

namespace liquidgemm {
namespace {

// Up to here every length is a rule of its own, which makes the tokens that may come known
// beforehand; beyond, characters are counted while the answer is written.
constexpr std::int64_t kUncounted = 24;

const std::string& plain() {
  static const std::string kClass = GrammarText::character_class(CharacterSet::plain_in_json());
  return kClass;
}

}  // namespace

std::string JsonGrammar::space() { return "[\\U00000020\\U00000009\\U0000000a]*"; }
std::string JsonGrammar::separator() { return space() + " \",\" " + space(); }
std::string JsonGrammar::name(std::string_view property) {
  return GrammarText::literal(json::dump(json::Value(property))) + " " + space() + " \":\" " +
         space();
}

void JsonGrammar::build() {
  if (built_) return;
  built_ = true;
  const auto reference = &GrammarText::reference;
  value_ = grammar_.reserve();
  object_ = grammar_.reserve();
  array_ = grammar_.reserve();
  string_ = grammar_.reserve();
  rest_ = grammar_.reserve();
  inner_ = grammar_.reserve();
  const std::string hex = "[0-9a-fA-F]";
  // A character beyond the first 65536 is a pair of halves, and no half stands alone.
  const auto unicode =
      grammar_.add(fmt::format("[0-9a-cA-CefEF] {0} {0} {0} | [dD] [0-7] {0} {0} | "
                               "[dD] [89abAB] {0} {0} \"\\U0000005cu\" [dD] [c-fC-F] {0} {0}",
                               hex));
  escape_ = grammar_.add("[\\U00000022\\U0000005c\\U0000002fbfnrt] | \"u\" " + reference(unicode));
  const std::string escape = "\"\\U0000005c\" " + reference(escape_);
  grammar_.define(
      rest_, fmt::format("\"\\U00000022\" | {0} {2} | {1} {2}", plain(), escape, reference(rest_)));
  grammar_.define(inner_,
                  fmt::format("\"\" | {0} {2} | {1} {2}", plain(), escape, reference(inner_)));
  grammar_.define(string_, "\"\\U00000022\" " + reference(rest_));
  const std::string s = space();
  const std::string member =
      fmt::format("{0} {1} \":\" {1} {2}", reference(string_), s, reference(value_));
  grammar_.define(object_,
                  fmt::format("\"{{\" {0} ({1} ({2} {1})*)? {0} \"}}\"", s, member, separator()));
  grammar_.define(array_, fmt::format("\"[\" {0} ({1} ({2} {1})*)? {0} \"]\"", s, reference(value_),
                                      separator()));
  grammar_.define(
      value_, fmt::format("{} | {} | {} | {} | \"true\" | \"false\" | \"null\"", reference(object_),
                          reference(array_), reference(string_), any_number()));
}

std::string JsonGrammar::any_value() {
  build();
  return GrammarText::reference(value_);
}

std::string JsonGrammar::any_object() {
  build();
  return GrammarText::reference(object_);
}

std::string JsonGrammar::any_array() {
  build();
  return GrammarText::reference(array_);
}

std::string JsonGrammar::any_string() {
  build();
  return GrammarText::reference(string_);
}

Result<std::string> JsonGrammar::string(std::int64_t least, std::int64_t most) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const GrammarText::Rule rest, rest_of_string(least, most));
  return "\"\\U00000022\" " + GrammarText::reference(rest);
}

Result<GrammarText::Rule> JsonGrammar::rest_of_string(std::int64_t least, std::int64_t most) {
  build();
  // From the shortest rest to the whole, so that each rule finds the one after it.
  std::vector<std::pair<std::int64_t, std::int64_t>> missing;
  while (least > 0 || (most >= 0 && most <= kUncounted)) {
    if (rests_.contains({least, most})) break;
    missing.emplace_back(least, most);
    if (most == 0) break;
    LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(GrammarText::cost(CharacterSet::plain_in_json())));
    least = std::max<std::int64_t>(least - 1, 0);
    most = std::max<std::int64_t>(most - 1, -1);
  }
  GrammarText::Rule next = rest_;
  if (const auto known = rests_.find({least, most}); known != rests_.end()) {
    next = known->second;
  } else if (most > kUncounted) {
    // An escape counts with all its characters, which makes the string shorter, never longer.
    LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(GrammarText::cost(CharacterSet::plain_in_json())));
    const GrammarText::Rule counted = grammar_.add_counted(GrammarText::reference(inner_), most);
    next = grammar_.add(GrammarText::reference(counted) + " \"\\U00000022\"");
    rests_.emplace(std::pair(least, most), next);
  }
  const std::string escape = "\"\\U0000005c\" " + GrammarText::reference(escape_);
  for (; !missing.empty(); missing.pop_back()) {
    const auto [needed, left] = missing.back();
    std::string body = needed == 0 ? "\"\\U00000022\"" : "";
    if (left != 0) {
      body += fmt::format("{0}{1} {3} | {2} {3}", body.empty() ? "" : " | ", plain(), escape,
                          GrammarText::reference(next));
    }
    next = grammar_.add(std::move(body));
    rests_.emplace(missing.back(), next);
  }
  return next;
}

}  // namespace liquidgemm
