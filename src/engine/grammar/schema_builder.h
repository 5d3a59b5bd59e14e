// Builds the rules of one JSON schema; schema_grammar() is its use.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/grammar.h"
#include "engine/grammar/grammar_text.h"
#include "engine/grammar/json_grammar.h"
#include "engine/grammar/schema_keywords.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

class SchemaBuilder {
 public:
  // `root` must outlive the builder.
  SchemaBuilder(const json::Value& root, const GrammarLimits& limits)
      : root_(root), limits_(limits), json_(grammar_) {}

  Result<std::string> build();

 private:
  using Rule = GrammarText::Rule;

  // What a schema's rule is made of, to see whether its answers can end.
  struct Shape {
    std::vector<std::vector<Rule>> ways;  // one of them, and in it every rule
    std::vector<Rule> same;               // rules that stand for the whole value ($ref, anyOf)
  };

  Result<Rule> schema(const json::Value& value, const std::string& path);
  Result<Rule> reference(const json::Value& target, const std::string& path);
  Result<Rule> any_of(const json::Value& list, const std::string& path);
  Result<Rule> values(const json::Object& object, const std::string& path);
  Result<Rule> typed(const json::Object& object, const std::string& path);
  Result<Rule> of_type(const json::Object& object, SchemaType type, const std::string& path);

  Result<std::string> string(const json::Object& object, const std::string& path);
  Result<std::string> quoted_regex(std::string_view regex, const std::string& path);
  Result<std::string> integer(const json::Object& object, const std::string& path);
  Result<std::string> number(const json::Object& object, const std::string& path);
  Result<Rule> array(const json::Object& object, const std::string& path);
  Result<Rule> object(const json::Object& object, const std::string& path);

  struct Property {
    std::string name;
    Rule value;
    bool required;
  };
  struct Additional {
    bool allowed = false;
    Rule value = 0;
    std::string key;  // an expression
  };
  Result<std::string> members(const std::vector<Property>& properties,
                              const Additional& additional);
  Result<std::string> other_key(const std::vector<Property>& properties);

  Result<std::vector<std::string>> required_names(const json::Object& object,
                                                  const std::string& path) const;
  Result<const json::Value*> resolve(const std::string& pointer, const std::string& path) const;
  Rule leaf(std::string body);
  Rule composite(std::string body, Shape shape);
  Rule choice_of(const std::vector<Rule>& rules);
  Status check_endings() const;
  Status check_same() const;

  const json::Value& root_;
  const GrammarLimits& limits_;
  GrammarText grammar_;
  JsonGrammar json_;
  std::map<Rule, Shape> shapes_;
  std::map<std::string, std::string> regexes_;  // expressions of quoted regexes
  std::unordered_map<const json::Value*, Rule> targets_;
  std::vector<std::pair<const json::Value*, std::string>> pending_;  // targets without a body
};

}  // namespace liquidgemm
