#include "engine/grammar/regex_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

constexpr std::size_t kMaxRegexBytes = 16'384;
constexpr std::int64_t kMaxRepetitions = 1000;

struct Part {
  std::string text;
  std::int64_t cost = 0;
  bool nullable = false;  // may match nothing
};

CharacterSet class_of(char32_t letter) {
  switch (letter) {
    case 'd': return {{'0', '9'}};
    case 'w': return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    case 's': return {{'\t', '\r'}, {' ', ' '}, {0xa0, 0xa0}};
    case 'D':
    case 'W':
    case 'S': return CharacterSet::written().minus(class_of(letter - 'A' + 'a'));
    default: return {};
  }
}

class Parser {
 public:
  Parser(std::string_view regex, RegexInside inside, std::size_t max_depth)
      : inside_(inside), max_depth_(max_depth) {
    for (std::size_t i = 0; i < regex.size();) {
      const CodePoint c = code_point_at(regex, i);
      text_.push_back(c.value);
      i += c.length;
    }
  }

  Result<Part> parse() {
    LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, alternatives(0));
    if (!at_end()) return error("this \")\" closes no group");
    return part;
  }

 private:
  bool at_end() const { return position_ == text_.size(); }
  bool next_is(char32_t c) const { return !at_end() && text_[position_] == c; }
  bool take(char32_t c) {
    if (!next_is(c)) return false;
    ++position_;
    return true;
  }
  Status error(const std::string& problem) const {
    return invalid_argument(
        fmt::format("at position {} of the expression: {}", position_ + 1, problem));
  }
  Status not_supported(const std::string& what) const {
    return unsupported(
        fmt::format("at position {} of the expression: {} not supported", position_ + 1, what));
  }

  Result<Part> alternatives(std::size_t depth) {
    if (depth > max_depth_) return error("groups are nested too deeply");
    std::vector<std::string> choices;
    Part all;
    do {
      LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, sequence(depth));
      all.cost += part.cost;
      all.nullable = all.nullable || part.nullable;
      choices.push_back(std::move(part.text));
    } while (take('|'));
    all.text = GrammarText::choice(choices);
    return all;
  }

  Result<Part> sequence(std::size_t depth) {
    Part all;
    all.nullable = true;
    if (depth == 0) take('^');
    while (!at_end() && !next_is('|') && !next_is(')')) {
      if (next_is('$') && depth == 0 &&
          (position_ + 1 == text_.size() || text_[position_ + 1] == '|')) {
        ++position_;
        break;
      }
      LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, repeated(depth));
      if (!all.text.empty()) all.text += " ";
      all.text += part.text;
      all.cost += part.cost;
      all.nullable = all.nullable && part.nullable;
    }
    if (all.text.empty()) all.text = "\"\"";
    return all;
  }

  Result<Part> repeated(std::size_t depth) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, atom(depth));
    std::int64_t least = 1;
    std::int64_t most = 1;
    if (take('*')) {
      least = 0, most = -1;
    } else if (take('+')) {
      most = -1;
    } else if (take('?')) {
      least = 0;
    } else if (take('{')) {
      LIQUIDGEMM_RETURN_IF_ERROR(counts(least, most));
    } else {
      return part;
    }
    if (next_is('+')) return not_supported("possessive quantifiers are");
    take('?');  // lazy or greedy: the same texts match
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{')) {
      return error("two quantifiers follow each other; put the first into a group");
    }
    if (part.nullable && (most < 0 || most > 1)) {
      return not_supported("repeating what may match nothing is");
    }
    part.text = GrammarText::repeat(part.text, least, most);
    part.cost = part.cost * std::max<std::int64_t>({least, most, 1});
    part.cost = std::min(part.cost, 2 * GrammarText::kMaxCost);
    part.nullable = part.nullable || least == 0;
    return part;
  }

  Status counts(std::int64_t& least, std::int64_t& most) {
    const auto number = [&]() -> std::optional<std::int64_t> {
      std::optional<std::int64_t> value;
      while (!at_end() && text_[position_] >= '0' && text_[position_] <= '9') {
        value = std::min(value.value_or(0) * 10 + static_cast<std::int64_t>(text_[position_] - '0'),
                         2 * kMaxRepetitions);
        ++position_;
      }
      return value;
    };
    const auto first = number();
    if (!first) return error("expected a count after \"{\"; a brace itself is written \"\\{\"");
    least = most = *first;
    if (take(',')) most = number().value_or(-1);
    if (!take('}')) return error("expected \"}\" after the counts");
    if (least > kMaxRepetitions || most > kMaxRepetitions) {
      return error(fmt::format("a repetition count is above {}", kMaxRepetitions));
    }
    if (most >= 0 && most < least) return error("the counts of a repetition are in reverse");
    return ok_status();
  }

  Result<Part> atom(std::size_t depth) {
    switch (text_[position_]) {
      case '(': return group(depth);
      case '[': {
        LIQUIDGEMM_ASSIGN_OR_RETURN(CharacterSet set, character_class());
        return of_set(set);
      }
      case '.':
        ++position_;
        return of_set(
            CharacterSet::written().minus({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}));
      case '\\': {
        LIQUIDGEMM_ASSIGN_OR_RETURN(CharacterSet set, escape(false));
        return of_set(set);
      }
      case '^':
      case '$': return not_supported("an anchor inside the expression is");
      case '*':
      case '+':
      case '?':
      case '{': return error("there is nothing to repeat");
      case ']':
      case '}': return error("a bracket that closes nothing; itself it is written with \"\\\"");
      default: {
        const char32_t c = text_[position_++];
        return of_set({{c, c}});
      }
    }
  }

  Result<Part> group(std::size_t depth) {
    ++position_;
    if (take('?')) {
      take('P');
      if (take('<')) {
        if (next_is('=') || next_is('!')) return not_supported("lookbehind is");
        const std::size_t begin = position_;
        while (!at_end() && is_name(text_[position_])) ++position_;
        if (position_ == begin || !take('>')) return error("expected a group's name and \">\"");
      } else if (next_is('=') || next_is('!')) {
        return not_supported("lookahead is");
      } else if (!take(':')) {
        return not_supported("a group of this kind is");
      }
    }
    LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, alternatives(depth + 1));
    if (!take(')')) return error("a group is not closed");
    part.text = "(" + part.text + ")";
    return part;
  }

  static bool is_name(char32_t c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }

  Result<CharacterSet> character_class() {
    ++position_;
    const bool negated = take('^');
    CharacterSet set;
    std::size_t parts = 0;
    while (!next_is(']')) {
      if (at_end()) return error("a character class is not closed");
      if (++parts > 1000) return error("a character class has more than 1000 parts");
      if (next_is('[')) {
        return error("\"[\" inside a character class is written \"\\[\"");
      }
      LIQUIDGEMM_ASSIGN_OR_RETURN(CharacterSet first, class_member());
      if (next_is('-') && position_ + 1 < text_.size() && text_[position_ + 1] != ']') {
        ++position_;
        LIQUIDGEMM_ASSIGN_OR_RETURN(CharacterSet last, class_member());
        const auto single = [](const CharacterSet& one) {
          return one.ranges().size() == 1 && one.ranges()[0].first == one.ranges()[0].second;
        };
        if (!single(first) || !single(last)) return error("a range is between two characters");
        if (last.ranges()[0].first < first.ranges()[0].first) {
          return error("a range of characters is in reverse");
        }
        set.add(first.ranges()[0].first, last.ranges()[0].first);
      } else {
        set.add(first);
      }
    }
    ++position_;
    if (parts == 0) return error("a character class is empty");
    return negated ? CharacterSet::written().minus(set) : set;
  }

  Result<CharacterSet> class_member() {
    if (next_is('\\')) return escape(true);
    const char32_t c = text_[position_++];
    return CharacterSet{{c, c}};
  }

  Result<char32_t> hex(std::size_t length) {
    char32_t value = 0;
    for (std::size_t i = 0; i < length; ++i, ++position_) {
      const char32_t c = at_end() ? 0 : text_[position_] | 0x20;
      if (c >= '0' && c <= '9') {
        value = value * 16 + (c - '0');
      } else if (c >= 'a' && c <= 'f') {
        value = value * 16 + (c - 'a' + 10);
      } else {
        return error(fmt::format("expected {} hexadecimal digits", length));
      }
    }
    return value;
  }

  Result<CharacterSet> escape(bool in_class) {
    ++position_;
    if (at_end()) return error("nothing follows the last \"\\\"");
    const char32_t c = text_[position_++];
    const auto one = [](char32_t value) { return CharacterSet{{value, value}}; };
    switch (c) {
      case 'd':
      case 'D':
      case 's':
      case 'S':
      case 'w':
      case 'W': return class_of(c);
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      case 'b':
        if (in_class) return one('\b');
        return not_supported("a word boundary is");
      case 'x': {
        LIQUIDGEMM_ASSIGN_OR_RETURN(const char32_t value, hex(2));
        return one(value);
      }
      case 'u': {
        LIQUIDGEMM_ASSIGN_OR_RETURN(const char32_t value, hex(4));
        return one(value);
      }
      case 'B': return not_supported("a word boundary is");
      case 'p':
      case 'P': return not_supported("a Unicode category is");
      case 'k': return not_supported("a backreference is");
      default: break;
    }
    if (c >= '1' && c <= '9') return not_supported("a backreference is");
    if (is_name(c) || c >= 0x80) return not_supported("this escape is");
    return one(c);
  }

  // The characters of `set`, as they stand in the answer.
  Result<Part> of_set(CharacterSet set) {
    set = set.both(CharacterSet::all());
    if (set.empty()) return error("no character can match here");
    Part part;
    if (inside_ == RegexInside::kText) {
      part.cost = GrammarText::cost(set);
      part.text = GrammarText::character_class(set);
      return part;
    }
    const CharacterSet plain = set.both(CharacterSet::plain_in_json());
    std::vector<std::string> choices;
    if (!plain.empty()) {
      choices.push_back(GrammarText::character_class(plain));
      part.cost += GrammarText::cost(plain);
    }
    const CharacterSet special = set.minus(plain);
    for (const auto& [first, last] : special.ranges()) {
      for (char32_t c = first; c <= last; ++c) choices.push_back(escaped(c));
      part.cost += 6 * static_cast<std::int64_t>(last - first + 1);
    }
    part.text = GrammarText::choice(choices);
    return part;
  }

  static std::string escaped(char32_t c) {
    switch (c) {
      case '"': return GrammarText::literal("\\\"");
      case '\\': return GrammarText::literal("\\\\");
      case '\b': return GrammarText::literal("\\b");
      case '\f': return GrammarText::literal("\\f");
      case '\n': return GrammarText::literal("\\n");
      case '\r': return GrammarText::literal("\\r");
      case '\t': return GrammarText::literal("\\t");
      default: return GrammarText::literal(fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c)));
    }
  }

  std::vector<char32_t> text_;
  std::size_t position_ = 0;
  RegexInside inside_;
  std::size_t max_depth_;
};

}  // namespace

Result<std::string> regex_expression(std::string_view regex, RegexInside inside,
                                     std::size_t max_depth, GrammarText& grammar) {
  if (regex.size() > kMaxRegexBytes) {
    return resource_exhausted(fmt::format("the expression has {} bytes, at most {} are accepted",
                                          regex.size(), kMaxRegexBytes));
  }
  if (!is_valid_utf8(regex)) return invalid_argument("the expression is not valid UTF-8");
  LIQUIDGEMM_ASSIGN_OR_RETURN(Part part, Parser(regex, inside, max_depth).parse());
  LIQUIDGEMM_RETURN_IF_ERROR(grammar.spend(part.cost + 1));
  return std::move(part.text);
}

}  // namespace liquidgemm
