// The grammar of JSON, as far as no schema says more: white space, strings, any value.
//
// Answers follow it strictly: no lone halves of surrogate pairs, no numbers that a double does not
// hold.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "engine/grammar/grammar_text.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class JsonGrammar {
 public:
  explicit JsonGrammar(GrammarText& grammar) : grammar_(grammar) {}

  static std::string space();                          // white space: any, see json_space.h
  static std::string separator();                      // a comma between spaces
  static std::string name(std::string_view property);  // quoted, with its colon

  std::string any_value();
  std::string any_object();
  std::string any_array();
  std::string any_string();
  // Strings of `least` to `most` characters; `most` < 0: any number.
  Result<std::string> string(std::int64_t least, std::int64_t most);

 private:
  void build();
  Result<GrammarText::Rule> rest_of_string(std::int64_t least, std::int64_t most);

  GrammarText& grammar_;
  bool built_ = false;
  GrammarText::Rule value_ = 0;
  GrammarText::Rule object_ = 0;
  GrammarText::Rule array_ = 0;
  GrammarText::Rule string_ = 0;
  GrammarText::Rule rest_ = 0;    // of a string, with its closing quote
  GrammarText::Rule inner_ = 0;   // any number of a string's characters
  GrammarText::Rule escape_ = 0;  // what follows a backslash
  std::map<std::pair<std::int64_t, std::int64_t>, GrammarText::Rule> rests_;
};

}  // namespace liquidgemm
