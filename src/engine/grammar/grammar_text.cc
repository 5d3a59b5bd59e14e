#include "engine/grammar/grammar_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

bool is_alphanumeric(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

void append_character(char32_t c, std::string& out) {
  if (is_alphanumeric(c)) {
    out.push_back(static_cast<char>(c));
  } else {
    out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
  }
}

}  // namespace

GrammarText::Rule GrammarText::reserve() {
  bodies_.emplace_back();
  return static_cast<Rule>(bodies_.size()) - 1;
}

void GrammarText::define(Rule rule, std::string body) {
  bytes_ += body.size() + 16;
  bodies_[static_cast<std::size_t>(rule)].text = std::move(body);
}

GrammarText::Rule GrammarText::add(std::string body) {
  const Rule rule = reserve();
  define(rule, std::move(body));
  return rule;
}

GrammarText::Rule GrammarText::add_counted(std::string body, std::int64_t most) {
  const Rule rule = add(std::move(body));
  bodies_.back().most = most;
  return rule;
}

std::string GrammarText::reference(Rule rule) { return "r" + std::to_string(rule); }

std::string GrammarText::literal(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (c.value >= 0x20 && c.value != '"' && c.value != '\\' && c.value != 0x7f) {
      out.append(text.substr(i, c.length));
    } else {
      append_character(c.value, out);
    }
    i += c.length;
  }
  out.push_back('"');
  return out;
}

std::string GrammarText::character_class(const CharacterSet& set) {
  std::string out = "[";
  for (const auto& [first, last] : set.ranges()) {
    append_character(first, out);
    if (last == first) continue;
    out.push_back('-');
    append_character(last, out);
  }
  out.push_back(']');
  return out;
}

std::string GrammarText::repeat(const std::string& expression, std::int64_t least,
                                std::int64_t most) {
  if (most == 0) return "\"\"";
  if (least == 1 && most == 1) return expression;
  std::string out = "(" + expression + ")";
  if (expression.front() == '[' && expression.find(']') == expression.size() - 1) out = expression;
  if (most < 0) {
    if (least == 0) return out + "*";
    if (least == 1) return out + "+";
    return out + fmt::format("{{{},}}", least);
  }
  if (least == 0 && most == 1) return out + "?";
  return out + fmt::format("{{{},{}}}", least, most);
}

std::string GrammarText::choice(const std::vector<std::string>& expressions) {
  if (expressions.size() == 1) return expressions.front();
  std::string out = "(";
  for (std::size_t i = 0; i < expressions.size(); ++i) {
    if (i > 0) out += " | ";
    out += expressions[i];
  }
  out.push_back(')');
  return out;
}

std::int64_t GrammarText::cost(const CharacterSet& set) {
  char32_t characters = 0;
  for (const auto& [first, last] : set.ranges()) characters += last - first + 1;
  if (characters <= 10) return 2;
  return characters <= 128 ? 80 : 450;
}

Status GrammarText::spend(std::int64_t cost) {
  cost_ = std::min(cost_ + cost, 2 * kMaxCost);
  if (cost_ <= kMaxCost) return ok_status();
  return resource_exhausted(
      "the grammar is too large to compile; use fewer or shorter values, smaller repetition "
      "counts, a smaller minLength");
}

Result<std::string> GrammarText::finish(Rule root) const {
  if (bytes_ > kMaxBytes) {
    return resource_exhausted(fmt::format("the grammar takes {} KiB, at most {} are compiled",
                                          bytes_ >> 10, kMaxBytes >> 10));
  }
  std::string out = "root ::= " + reference(root) + "\n";
  out.reserve(bytes_ + 32 * bodies_.size());
  for (std::size_t i = 0; i < bodies_.size(); ++i) {
    out += reference(static_cast<Rule>(i));
    if (bodies_[i].most >= 0) out += fmt::format("[max_chars={}]", bodies_[i].most);
    out += " ::= " + bodies_[i].text + "\n";
  }
  return out;
}

}  // namespace liquidgemm
