// The text of a grammar: rules over Unicode characters, in xgrammar's EBNF. Everything that comes
// from a request goes through literal() and character_class(), so that it cannot become notation.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/character_set.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class GrammarText {
 public:
  using Rule = std::int32_t;

  // A rule whose body follows. Every reserved rule must be defined before finish().
  Rule reserve();
  void define(Rule rule, std::string body);
  Rule add(std::string body);
  // A rule that takes at most so many characters; its body may end after any of them.
  Rule add_counted(std::string body, std::int64_t most);

  static std::string reference(Rule rule);
  static std::string literal(std::string_view text);            // valid UTF-8 without a zero byte
  static std::string character_class(const CharacterSet& set);  // not empty
  // `expression` so many times; `most` < 0: any number.
  static std::string repeat(const std::string& expression, std::int64_t least, std::int64_t most);
  static std::string choice(const std::vector<std::string>& expressions);  // not empty

  // What compiling costs, in characters: every place where a character may come is compared with
  // the whole vocabulary, which takes the longer the more characters may come there.
  static std::int64_t cost(const CharacterSet& set);
  // Adds to the grammar's cost; an error once it is more than one request may spend.
  Status spend(std::int64_t cost);

  // The root is named "root".
  Result<std::string> finish(Rule root) const;

  // 1 to 2 s of compiling for a vocabulary of 50,000.
  static constexpr std::int64_t kMaxCost = 50'000;
  static constexpr std::size_t kMaxBytes = 2u << 20;

 private:
  struct Body {
    std::string text;
    std::int64_t most = -1;  // characters
  };
  std::vector<Body> bodies_;
  std::size_t bytes_ = 0;
  std::int64_t cost_ = 0;
};

}  // namespace liquidgemm
