// What is refused, before anything is built from it, and what the largest grammars cost.
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/grammar/spec_grammar.h"
#include "fresh_seed.h"
#include "grammar_walk.h"

namespace liquidgemm {
namespace {

using testing::choice_spec;
using testing::regex_spec;
using testing::schema_spec;

std::string repeated(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

// The message of the refusal; a test failure where there is none.
std::string refusal(const GrammarSpec& spec) {
  const auto text = spec_grammar(spec, GrammarLimits());
  EXPECT_FALSE(text.ok()) << spec.text.substr(0, 200);
  return text.ok() ? "" : text.status().message();
}

void expect_refused(const GrammarSpec& spec, const std::string& part) {
  const std::string message = refusal(spec);
  EXPECT_NE(message.find(part), std::string::npos)
      << spec.text.substr(0, 200) << "\n  message: " << message << "\n  expected: " << part;
  EXPECT_LT(message.size(), 1000u);
}

TEST(GrammarRefusal, SchemasThatAreNone) {
  expect_refused(schema_spec(""), "schema");
  expect_refused(schema_spec("{"), "schema");
  expect_refused(schema_spec("nonsense"), "schema");
  expect_refused(schema_spec("[]"), "expected an object");
  expect_refused(schema_spec("false"), "no value");
  expect_refused(schema_spec("{\"type\":\"\xff\"}"), "schema");
  expect_refused(schema_spec(R"({"type":"strin"})"), "#/type");
  expect_refused(schema_spec(R"({"type":1})"), "#/type");
  expect_refused(schema_spec(R"({"type":[]})"), "#/type");
  expect_refused(schema_spec(R"({"type":"object","type":"array"})"), "twice");
  expect_refused(schema_spec(R"({"properties":[]})"), "properties");
  expect_refused(schema_spec(R"({"properties":{"a":1}})"), "#/properties/a");
  expect_refused(schema_spec(R"({"required":"a"})"), "#/required");
  expect_refused(schema_spec(R"({"required":[1]})"), "#/required");
  expect_refused(schema_spec(R"({"required":["a"],"additionalProperties":false})"), "\"a\"");
  expect_refused(schema_spec(R"({"enum":[]})"), "holds none");
  expect_refused(schema_spec(R"({"enum":1})"), "#/enum");
  expect_refused(schema_spec(R"({"type":"string","enum":[1]})"), "holds none");
  expect_refused(schema_spec(R"({"anyOf":[]})"), "#/anyOf");
  expect_refused(schema_spec(R"({"anyOf":{}})"), "#/anyOf");
  expect_refused(schema_spec(R"({"minLength":-1})"), "minLength");
  expect_refused(schema_spec(R"({"minLength":"1"})"), "minLength");
  expect_refused(schema_spec(R"({"minLength":5,"maxLength":4})"), "above");
  expect_refused(schema_spec(R"({"type":"integer","minimum":5,"maximum":4})"), "no integer");
  expect_refused(schema_spec(R"({"type":"number","minimum":1,"exclusiveMaximum":1})"), "no number");
  expect_refused(schema_spec(R"({"type":"number","minimum":1e999})"), "double");
  expect_refused(schema_spec(R"({"type":"integer","minimum":1e300})"), "64 bits");
  expect_refused(schema_spec(R"({"minItems":3,"maxItems":2})"), "above");
  expect_refused(schema_spec(R"({"prefixItems":[{}],"items":false,"minItems":2})"), "minItems");
}

TEST(GrammarRefusal, KeywordsByTheirNames) {
  for (const char* keyword :
       {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
        "propertyNames", "contains", "multipleOf", "unevaluatedProperties", "uniqueItems",
        "minProperties", "maxProperties", "$dynamicRef"}) {
    expect_refused(schema_spec(std::string(R"({"properties":{"a":{")") + keyword + R"(":{}}}})"),
                   std::string("\"") + keyword + "\"");
  }
  expect_refused(schema_spec(R"({"allOf":[{},{}]})"), "allOf");
  expect_refused(schema_spec(R"({"anyOf":[{}],"properties":{}})"), "anyOf");
  expect_refused(schema_spec(R"({"$ref":"#","type":"object"})"), "$ref");
  expect_refused(schema_spec(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"), "overlap");
  expect_refused(schema_spec(R"({"oneOf":[{},{"type":"number"}]})"), "overlap");
  expect_refused(schema_spec(R"({"oneOf":[{"enum":["a"]},{"enum":["b","a"]}]})"), "overlap");
  expect_refused(schema_spec(R"({"type":"string","format":"nothing-known"})"), "nothing-known");
  expect_refused(schema_spec(R"({"pattern":"a","minLength":1})"), "only one");
  expect_refused(schema_spec(R"({"items":[{}]})"), "prefixItems");
}

TEST(GrammarRefusal, References) {
  for (const char* pointer : {"other.json", "a:b#/c", "", "#a"}) {
    expect_refused(schema_spec(std::string(R"({"items":{"$ref":")") + pointer + R"("}})"),
                   "#/items/$ref");
  }
  expect_refused(schema_spec(R"({"$ref":"#/missing"})"), "no such part");
  expect_refused(schema_spec(R"({"$ref":"#/type/0/x","type":1})"), "$ref");
  expect_refused(schema_spec(R"({"$ref":1})"), "$ref");
  expect_refused(schema_spec(R"({"$ref":"#"})"), "leads back to itself");
  expect_refused(schema_spec(R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},
                                "b":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/a"}]}}})"),
                 "leads back to itself");
  expect_refused(schema_spec(R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})"), "never end");
  expect_refused(schema_spec(R"({"items":{"$ref":"#"},"minItems":1})"), "never end");
  // A schema that the rest leaves unused may be anything.
  EXPECT_TRUE(spec_grammar(schema_spec(R"({"type":"null","$defs":{"x":{"$ref":"#/$defs/x"}}})"),
                           GrammarLimits())
                  .ok());
}

TEST(GrammarRefusal, SizeAndDepth) {
  for (const std::size_t depth : {50u, 500u, 5000u, 100'000u}) {
    const GrammarSpec spec =
        schema_spec(repeated(R"({"items":)", depth) + "{}" + repeated("}", depth));
    if (depth == 50) {
      EXPECT_TRUE(spec_grammar(spec, GrammarLimits()).ok());
    } else {
      expect_refused(spec, depth * 10 > (256u << 10) ? "bytes" : "schema");
    }
  }
  std::string many = R"({"enum":[)";
  for (int i = 0; i < 20'001; ++i) many += std::to_string(i) + ",";
  expect_refused(schema_spec(many + "0]}"), "20000");
  many = R"({"enum":[)";
  for (int i = 0; i < 10'001; ++i) many += std::to_string(i) + ",";
  expect_refused(schema_spec(many + "0]}"), "at most 10000");
  expect_refused(choice_spec(std::vector<std::string>(10'001, "a")), "at most 10000");
  expect_refused(schema_spec(R"({"minItems":1000000000})"), "minItems");
  expect_refused(schema_spec(R"({"maxItems":1000000000})"), "maxItems");
  expect_refused(schema_spec(R"({"maxLength":1000000000})"), "maxLength");
  expect_refused(schema_spec(R"({"minLength":1000000})"), "minLength");
  std::mt19937_64 random(testing::fresh_seed());
  std::vector<std::string> long_choices;
  for (int i = 0; i < 1000; ++i) {
    std::string& choice = long_choices.emplace_back();
    for (int j = 0; j < 100; ++j) choice.push_back(static_cast<char>('a' + random() % 26));
  }
  expect_refused(choice_spec(long_choices), "too large");
}

TEST(GrammarRefusal, Choices) {
  expect_refused(choice_spec({}), "empty");
  expect_refused(choice_spec({"a", ""}), "choice 1");
  expect_refused(choice_spec({"\xff"}), "choice 0");
  expect_refused(choice_spec({std::string("a\0b", 3)}), "choice 0");
  expect_refused(choice_spec({std::string(300u << 10, 'a')}), "bytes");
}

TEST(GrammarRefusal, Regexes) {
  const std::pair<const char*, const char*> cases[] = {{"", "empty"},
                                                       {"(", "not closed"},
                                                       {")", "closes no group"},
                                                       {"[a", "not closed"},
                                                       {"[]", "empty"},
                                                       {"*a", "nothing to repeat"},
                                                       {"a**", "quantifiers"},
                                                       {"a{2", "}"},
                                                       {"a{2,1}", "reverse"},
                                                       {"a{1001}", "1000"},
                                                       {"[z-a]", "reverse"},
                                                       {"(?=a)", "lookahead"},
                                                       {"(?!a)", "lookahead"},
                                                       {"(?<=a)", "lookbehind"},
                                                       {"(?<!a)", "lookbehind"},
                                                       {"(a)\\1", "backreference"},
                                                       {"(?P<n>a)\\k<n>", "backreference"},
                                                       {"\\bword", "boundary"},
                                                       {"\\p{L}", "category"},
                                                       {"(?i)a", "group"},
                                                       {"a^b", "anchor"},
                                                       {"(a$)b", "anchor"},
                                                       {"\\", "follows"},
                                                       {"\\q", "escape"},
                                                       {"\\x4", "hexadecimal"},
                                                       {"a++", "possessive"},
                                                       {"(a*)*", "nothing"},
                                                       {"(a|){2,}", "nothing"},
                                                       {"a{99999999999999999999}", "1000"},
                                                       {"[[:alpha:]]", "\\["},
                                                       {"\xc3", "UTF-8"},
                                                       {"\\x00", "no character"},
                                                       {"\\ud800", "no character"}};
  for (const auto& [regex, part] : cases) expect_refused(regex_spec(regex), part);
  expect_refused(regex_spec(repeated("(", 65) + "a" + repeated(")", 65)), "nested");
  expect_refused(regex_spec(repeated("(", 15'000)), "nested");
  expect_refused(regex_spec("((([a-z]{1,1000}){1,1000}){1,1000}){1,1000}"), "too large");
  expect_refused(regex_spec(std::string(20'000, 'a')), "bytes");
  expect_refused(regex_spec(".{1000}"), "too large");
}

std::int64_t resident_kib() {
  std::ifstream file("/proc/self/statm");
  std::int64_t pages = 0;
  std::int64_t resident = 0;
  file >> pages >> resident;
  return resident * 4;
}

TEST(GrammarCost, ThousandSchemasInBoundedMemory) {
  const auto vocabulary = testing::small_vocabulary();
  GrammarLimits limits;
  limits.cached = 8;
  auto compiler = GrammarCompiler::create(vocabulary->tokenizer, vocabulary->ends, limits);
  if (!compiler.ok()) GTEST_SKIP() << compiler.status().message();
  std::int64_t before = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto constraint = (*compiler)->compile(schema_spec(
        R"({"properties":{"name)" + std::to_string(i) + R"(":{"type":"string","maxLength":3}}})"));
    ASSERT_TRUE(constraint.ok()) << constraint.status().to_string();
    if (i == 200) before = resident_kib();
  }
  EXPECT_LT(resident_kib() - before, 32 << 10);
}

// The largest grammars of each kind are refused or compiled; printed, for a person to look at.
TEST(GrammarCost, LargestOfEachKind) {
  auto vocabulary = testing::smollm2_vocabulary();
  if (!vocabulary) vocabulary = testing::small_vocabulary();
  auto compiler = GrammarCompiler::create(vocabulary->tokenizer, vocabulary->ends);
  if (!compiler.ok()) GTEST_SKIP() << compiler.status().message();
  std::vector<std::pair<std::string, GrammarSpec>> specs;
  specs.emplace_back("json object", GrammarSpec{});
  specs.emplace_back("31 arrays",
                     schema_spec(repeated(R"({"items":)", 31) + "{}" + repeated("}", 31)));
  std::string text = R"({"enum":[)";
  for (int i = 0; i < 10'000; ++i)
    text += "\"value " + std::to_string(i * 7919 % 1'000'003) + "\",";
  text.back() = ']';
  specs.emplace_back("enum of 10,000", schema_spec(text + "}"));
  text = R"({"properties":{)";
  for (int i = 0; i < 400; ++i) text += "\"p" + std::to_string(i) + R"(":{"type":"string"},)";
  text.back() = '}';
  specs.emplace_back("400 optional properties", schema_spec(text + "}"));
  text = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 2000; ++i) {
    text += "\"d" + std::to_string(i) + R"(":{"items":{"$ref":"#/$defs/d)" + std::to_string(i + 1) +
            "\"}},";
  }
  specs.emplace_back("2,000 arrays through $ref", schema_spec(text + "\"d2000\":true}}"));
  specs.emplace_back("minLength 105",
                     schema_spec(R"({"type":"string","minLength":105,"maxLength":1000})"));
  specs.emplace_back("maxLength 1000", schema_spec(R"({"type":"string","maxLength":1000})"));
  specs.emplace_back("maxLength 20", schema_spec(R"({"type":"string","maxLength":20})"));
  specs.emplace_back("10,000 items",
                     schema_spec(R"({"items":{"type":"integer"},"minItems":10,"maxItems":10000})"));
  specs.emplace_back("regex of 600 letters", regex_spec(repeated("[a-z]*", 600)));
  specs.emplace_back("nested repetitions", regex_spec("([a-z]{1,24}x){0,24}"));
  specs.emplace_back("110 wide characters", regex_spec(".{0,110}"));
  testing::Walker walker(*vocabulary, testing::fresh_seed());
  for (const auto& [name, spec] : specs) {
    SCOPED_TRACE(name);
    const std::clock_t start = std::clock();
    auto constraint = (*compiler)->compile(spec);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    ASSERT_TRUE(constraint.ok()) << constraint.status().to_string();
    std::vector<std::uint32_t> mask(
        static_cast<std::size_t>(vocabulary->tokenizer.vocabulary_size()) / 32 + 1);
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE((*constraint)->allowed(mask));
    const std::chrono::duration<double, std::micro> first =
        std::chrono::steady_clock::now() - begin;
    std::printf("%-28s compiled in %7.1f ms of a core, first mask %8.1f us\n", name.c_str(),
                seconds * 1e3, first.count());
  }
}

}  // namespace
}  // namespace liquidgemm
