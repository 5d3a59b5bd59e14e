// Every answer under a grammar conforms to what the grammar was made of.
#include "engine/grammar.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/grammar/json_space.h"
#include "fresh_seed.h"
#include "grammar_walk.h"
#include "schema_conforms.h"

namespace liquidgemm {
namespace {

using testing::accepts;
using testing::choice_spec;
using testing::regex_spec;
using testing::schema_spec;
using testing::Walker;

std::unique_ptr<GrammarCompiler> make_compiler(const testing::Vocabulary& vocabulary,
                                               const GrammarLimits& limits = {}) {
  auto compiler = GrammarCompiler::create(vocabulary.tokenizer, vocabulary.ends, limits);
  EXPECT_TRUE(compiler.ok()) << compiler.status().to_string();
  return compiler.ok() ? std::move(*compiler) : nullptr;
}

class Grammars : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    vocabularies_.push_back(testing::small_vocabulary());
    if (auto smollm2 = testing::smollm2_vocabulary()) vocabularies_.push_back(smollm2);
  }
  static void TearDownTestSuite() { vocabularies_.clear(); }
  void SetUp() override {
    auto compiler = GrammarCompiler::create(small().tokenizer, small().ends);
    if (!compiler.ok() && compiler.status().code() == StatusCode::kUnsupported) {
      GTEST_SKIP() << compiler.status().message();
    }
  }
  static const testing::Vocabulary& small() { return *vocabularies_[0]; }

  // Walks over each vocabulary; `check` sees every answer.
  template <typename Check>
  void walk(const std::vector<GrammarSpec>& specs, int walks, const Check& check) {
    const std::uint64_t seed = testing::fresh_seed();
    for (const auto& vocabulary : vocabularies_) {
      Walker walker(*vocabulary, seed);
      const auto compiler = make_compiler(*vocabulary);
      ASSERT_NE(compiler, nullptr);
      for (const GrammarSpec& spec : specs) {
        SCOPED_TRACE(spec.text);
        for (int i = 0; i < walks; ++i) {
          auto constraint = compiler->compile(spec);
          ASSERT_TRUE(constraint.ok()) << constraint.status().to_string();
          const auto text = walker.walk(**constraint, static_cast<int>(walker.random()() % 60));
          ASSERT_TRUE(text.has_value());
          check(spec, *text);
        }
      }
    }
  }

  static std::vector<std::shared_ptr<testing::Vocabulary>> vocabularies_;
};
std::vector<std::shared_ptr<testing::Vocabulary>> Grammars::vocabularies_;

// Strict parsing; names may repeat inside objects that any name may stand in.
std::optional<json::Value> parse_answer(const std::string& text) {
  boost::json::parse_options options;
  options.max_depth = 4000;
  boost::system::error_code error;
  auto value = boost::json::parse(text, error, {}, options);
  EXPECT_FALSE(error) << error.message() << " in " << text;
  if (error) return std::nullopt;
  return value;
}

TEST_F(Grammars, AnswersAreJsonObjects) {
  walk({{GrammarSpec::Kind::kJsonObject, "", {}}}, 30, [](const GrammarSpec&, const auto& text) {
    const auto value = parse_answer(text);
    ASSERT_TRUE(value.has_value());
    EXPECT_TRUE(value->is_object()) << text;
  });
}

TEST_F(Grammars, AnswersConformToTheSchema) {
  const char* const schemas[] = {
      "true",
      "{}",
      R"({"type":"object"})",
      R"({"type":"array"})",
      R"({"type":["integer","null","boolean"]})",
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},
          "required":["name","age"],"additionalProperties":false})",
      R"({"properties":{"a":{"type":"null"},"b":{"type":"boolean"},"c":{"type":"number"}}})",
      R"({"properties":{"a":{},"b":{},"c":{},"d":{}},"required":["b","d"]})",
      R"({"properties":{"a":{"type":"integer"},"ab":{"type":"null"},"\u00e9t\u00e9":{"const":1}},
          "required":["z"],"additionalProperties":{"type":"boolean"}})",
      R"({"type":"object","additionalProperties":{"type":"integer","minimum":-3,"maximum":12}})",
      R"({"type":"array","items":{"type":"string","maxLength":3},"minItems":2,"maxItems":4})",
      R"({"prefixItems":[{"type":"integer"},{"type":"null"}],"items":{"type":"boolean"},
          "minItems":1,"maxItems":4})",
      R"({"prefixItems":[{"type":"integer"},{"type":"null"}],"items":false})",
      R"({"type":"array","items":{"type":"null"},"minItems":150,"maxItems":300})",
      R"({"type":"string","minLength":2,"maxLength":5})",
      R"({"type":"string","minLength":3})",
      R"({"type":"string","minLength":30,"maxLength":60})",
      R"({"type":"string","pattern":"^[a-c]+-[0-9]{2,3}$"})",
      R"({"type":"string","pattern":"^(a\"|\\\\|\n|[\u00e4-\u00fc])+x?$"})",
      R"({"type":"string","pattern":"b"})",
      R"({"enum":["red","green",1,2.5,null,true,[1,{"a":"b"}],"re\"d\\","r\u00e9"]})",
      R"({"type":"string","enum":["red",1,"green"]})",
      R"({"const":{"a":[1,2,"x"],"b":-1e-7}})",
      R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":2}]})",
      R"({"oneOf":[{"type":"integer"},{"type":"string"},{"type":"object"}]})",
      R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},
                    "required":["kind","x"]},
                   {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})",
      R"({"oneOf":[{"enum":["a","b"]},{"enum":["c"]}]})",
      R"({"$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},
            "children":{"type":"array","items":{"$ref":"#/$defs/node"},"maxItems":2}},
            "required":["value","children"]}},"$ref":"#/$defs/node"})",
      R"({"type":"object","properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},
          "required":["next"]})",
      R"({"allOf":[{"$ref":"#/definitions/x"}],"definitions":{"x":{"type":"integer"}}})",
  };
  std::vector<GrammarSpec> specs;
  for (const char* schema : schemas) specs.push_back(schema_spec(schema));
  walk(specs, 10, [](const GrammarSpec& spec, const std::string& text) {
    const auto schema = json::parse(spec.text, "schema");
    ASSERT_TRUE(schema.ok());
    const auto value = parse_answer(text);
    ASSERT_TRUE(value.has_value());
    EXPECT_TRUE(testing::SchemaCheck(*schema).conforms(*value)) << text;
  });
}

TEST_F(Grammars, NumbersStayWithinTheirBounds) {
  std::mt19937_64 random(testing::fresh_seed());
  const auto number = [&] {
    const double scales[] = {1, 10, 1000, 1e6};
    const double scale = scales[random() % 4];
    const double value = scale * (static_cast<double>(random() % 20001) - 10000) / 10000;
    return random() % 2 == 0 ? std::round(value) : value;
  };
  std::vector<GrammarSpec> specs;
  for (int i = 0; i < 40; ++i) {
    double low = number();
    double high = number();
    if (low > high) std::swap(low, high);
    if (high - low < 2) high += 2;
    json::Object schema;
    schema["type"] = random() % 2 == 0 ? "integer" : "number";
    if (random() % 4 != 0) schema[random() % 2 == 0 ? "minimum" : "exclusiveMinimum"] = low;
    if (random() % 4 != 0) schema[random() % 2 == 0 ? "maximum" : "exclusiveMaximum"] = high;
    specs.push_back(schema_spec(json::dump(schema)));
  }
  walk(specs, 8, [](const GrammarSpec& spec, const std::string& text) {
    const auto schema = json::parse(spec.text, "schema");
    const auto value = parse_answer(text);
    ASSERT_TRUE(value.has_value());
    EXPECT_TRUE(testing::SchemaCheck(*schema).conforms(*value)) << text;
  });
}

TEST_F(Grammars, EveryIntegerOfARangeMayCome) {
  std::mt19937_64 random(testing::fresh_seed());
  const auto compiler = make_compiler(small());
  for (int i = 0; i < 30; ++i) {
    const auto center = static_cast<std::int64_t>(random() % 4001) - 2000;
    const auto low = center - static_cast<std::int64_t>(random() % 300);
    const auto high = center + static_cast<std::int64_t>(random() % 300);
    const GrammarSpec spec = schema_spec(R"({"type":"integer","minimum":)" + std::to_string(low) +
                                         R"(,"maximum":)" + std::to_string(high) + "}");
    SCOPED_TRACE(spec.text);
    for (int j = 0; j < 40; ++j) {
      const auto value = low - 20 + static_cast<std::int64_t>(random() % (high - low + 41));
      EXPECT_EQ(accepts(*compiler, small(), spec, std::to_string(value)),
                value >= low && value <= high)
          << value;
    }
    EXPECT_TRUE(accepts(*compiler, small(), spec, std::to_string(low)));
    EXPECT_TRUE(accepts(*compiler, small(), spec, std::to_string(high)));
    EXPECT_FALSE(accepts(*compiler, small(), spec, "-0"));
  }
}

TEST_F(Grammars, TakesWhatPeopleWrite) {
  const auto compiler = make_compiler(small());
  const GrammarSpec person = schema_spec(
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},
          "mail":{"type":"string","format":"email"},"born":{"type":"string","format":"date"}},
          "required":["name"]})");
  for (const char* answer :
       {R"({"name":"A"})", R"({ "name": "A \"quoted\" \u00e9 \ud83d\ude00 name", "age": 31 })",
        "{\n  \"name\": \"Zo\u00eb\",\n  \"age\": -1,\n  \"mail\": \"a.b@c.example\"\n}",
        R"({"name":"A","born":"2024-12-31"})"}) {
    EXPECT_TRUE(accepts(*compiler, small(), person, answer)) << answer;
  }
  for (const char* answer : {R"({})", R"({"name":1})", R"({"age":1,"name":"A"})",
                             R"({"name":"A","x":1})", R"({"name":"A",})", R"({"name":"\ud800"})",
                             "{\"name\":\"tab\there\"}", R"({"name":"A","born":"2024-02-30"})",
                             R"({"name":"A","mail":"nobody"})", R"({"name":"A"} x)"}) {
    EXPECT_FALSE(accepts(*compiler, small(), person, answer)) << answer;
  }
  const GrammarSpec number = schema_spec(R"({"type":"number","minimum":0,"maximum":1})");
  for (const char* answer : {"0", "1", "0.5", "0.123", "1.0", "0.0"}) {
    EXPECT_TRUE(accepts(*compiler, small(), number, answer)) << answer;
  }
  for (const char* answer : {"1.01", "-0.1", "2", "1e0", "01", "."}) {
    EXPECT_FALSE(accepts(*compiler, small(), number, answer)) << answer;
  }
}

TEST_F(Grammars, WhiteSpaceIsWhatPrintersWrite) {
  const auto compiler = make_compiler(small());
  const GrammarSpec list = schema_spec(
      R"({"type":"array","items":{"type":"object","properties":{"a":{"type":"string"}}}})");
  const GrammarSpec object = {GrammarSpec::Kind::kJsonObject, "", {}};
  const std::string indent(JsonSpace::kMaxIndent, ' ');
  for (const std::string& answer :
       {std::string(R"([{"a":"x"},{}])"), std::string(R"([ { "a" : "x" } , { } ])"),
        std::string("[\n  {\n    \"a\": \"x\"\n  },\n  {}\n]"),
        std::string("[\n\t{\n\t\t\"a\": \"x\"\n\t}\n]"),
        std::string("[{\"a\":\"x     \\n\\n   \\\"      y\"}]"), "[\n" + indent + "]"}) {
    EXPECT_TRUE(accepts(*compiler, small(), list, answer)) << answer;
    EXPECT_TRUE(accepts(*compiler, small(), object, "{\"list\": " + answer + "}")) << answer;
  }
  for (const std::string& answer :
       {std::string("[  ]"), std::string("[\n\n]"), std::string("[ \n]"), std::string("[\t]"),
        std::string(R"([{"a":"x"},  {}])"), std::string(R"([{"a"  :"x"}])"),
        std::string(R"([{"a":"x \\"  }])"), "[\n" + indent + " ]"}) {
    EXPECT_FALSE(accepts(*compiler, small(), list, answer)) << answer;
    EXPECT_FALSE(accepts(*compiler, small(), object, "{\"list\": " + answer + "}")) << answer;
  }
  // A choice or an expression may be white space as it likes.
  EXPECT_TRUE(accepts(*compiler, small(), regex_spec("a {40}b"), "a" + indent + "        b"));
}

// Whoever likes white space best takes it wherever it may come.
TEST_F(Grammars, AnswersOfSomebodyWhoLikesWhiteSpaceBestEnd) {
  const GrammarSpec spec = schema_spec(
      R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"null"},"maxItems":2},
          "b":{"type":"boolean"},"c":{"enum":["x"]}},"required":["a","b","c"]})");
  for (const auto& vocabulary : vocabularies_) {
    const auto compiler = make_compiler(*vocabulary);
    auto constraint = compiler->compile(spec);
    ASSERT_TRUE(constraint.ok()) << constraint.status().to_string();
    const Tokenizer& tokenizer = vocabulary->tokenizer;
    std::vector<std::uint32_t> mask(tokenizer.vocabulary_size() / 32 + 1);
    std::string text;
    TokenId chosen = -1;
    for (int step = 0; step < 2000 && chosen != vocabulary->ends[0]; ++step) {
      ASSERT_TRUE((*constraint)->allowed(mask));
      chosen = -1;
      std::size_t most = 0;
      for (TokenId token = 0; token < static_cast<TokenId>(tokenizer.vocabulary_size()); ++token) {
        if ((mask[static_cast<std::size_t>(token) / 32] >> token % 32 & 1) == 0) continue;
        const std::string_view bytes = tokenizer.token_bytes(token);
        const auto space = static_cast<std::size_t>(std::count_if(
            bytes.begin(), bytes.end(), [](char c) { return c == ' ' || c == '\n'; }));
        if (chosen >= 0 && space <= most) continue;
        chosen = token;
        most = space;
      }
      ASSERT_GE(chosen, 0) << text;
      ASSERT_TRUE((*constraint)->accept(chosen)) << text;
      if (chosen != vocabulary->ends[0]) text += tokenizer.token_bytes(chosen);
    }
    EXPECT_EQ(chosen, vocabulary->ends[0]) << text;
    EXPECT_TRUE(parse_answer(text).has_value());
  }
}

TEST_F(Grammars, RegexesMatchTheWholeAnswer) {
  std::vector<GrammarSpec> specs;
  for (const char* regex :
       {"[a-z]{2,5}", "^(yes|no|maybe)$", "a*b+c?", "\\d{3}-\\d{4}", "(ab|cd){1,3}[^a-z\\s]",
        "[\\w.]+@[\\w]+\\.(com|org)", "x|y{2}|", "\\(\\[\\]\\)\\{\\}\\\\", ".{0,7}",
        "[+\\-*/^\\]]{3}", "(?:a(?:b(?:c)?)?)?d", "\\x41\\u0042[\\x30-\\x39]*?z",
        "[0-9]{1,40}(\\.[0-9]{2})?"}) {
    specs.push_back(regex_spec(regex));
  }
  walk(specs, 20, [](const GrammarSpec& spec, const std::string& text) {
    // std::regex sees bytes; "." may match several of one character.
    if (spec.text.front() == '.') {
      EXPECT_LE(testing::characters(text), 7u);
      EXPECT_EQ(text.find('\n'), std::string::npos);
      return;
    }
    if (text.size() > 200) return;  // std::regex recurses
    // It sees bytes: one for each character that only negated classes match here.
    std::string bytes;
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint c = code_point_at(text, i);
      bytes.push_back(c.value < 0x80 ? text[i] : '~');
      i += c.length;
    }
    EXPECT_TRUE(std::regex_match(bytes, std::regex(spec.text))) << text;
  });
}

TEST_F(Grammars, ChoicesComeExactly) {
  const std::vector<std::string> choices = {"yes",    "yes, but", "no",         "\u00fcber",
                                            "a\"b\\", " x\n",     "\U0001f600", "yes"};
  std::set<std::string> seen;
  walk({choice_spec(choices)}, 200, [&](const GrammarSpec&, const std::string& text) {
    EXPECT_NE(std::find(choices.begin(), choices.end(), text), choices.end()) << text;
    seen.insert(text);
  });
  EXPECT_EQ(seen.size(), choices.size() - 1);
}

TEST_F(Grammars, EndTokensMayLieBeyondTheTokenizer) {
  const auto size = static_cast<TokenId>(small().tokenizer.vocabulary_size());
  auto compiler = GrammarCompiler::create(small().tokenizer, {size + 5});
  ASSERT_TRUE(compiler.ok());
  auto constraint = (*compiler)->compile(choice_spec({"a"}));
  ASSERT_TRUE(constraint.ok());
  std::vector<std::uint32_t> mask(static_cast<std::size_t>(size + 70) / 32, ~0u);
  ASSERT_TRUE((*constraint)->accept(*small().tokenizer.find("a")));
  ASSERT_TRUE((*constraint)->allowed(mask));
  for (TokenId id = 0; id < static_cast<TokenId>(32 * mask.size()); ++id) {
    EXPECT_EQ(mask[static_cast<std::size_t>(id) / 32] >> id % 32 & 1, id == size + 5) << id;
  }
  EXPECT_FALSE((*constraint)->accept(size + 4));
  EXPECT_FALSE((*constraint)->accept(-1));
  EXPECT_FALSE((*constraint)->accept(INT32_MAX));
  EXPECT_TRUE((*constraint)->accept(size + 5));
}

// SmolLM2 has no token for the byte that U+4198E begins with; the small vocabulary has them all.
TEST_F(Grammars, WhatTheVocabularyCannotSpellIsRefusedOrEndsTheAnswer) {
  if (vocabularies_.size() < 2) GTEST_SKIP() << "SmolLM2 is not there";
  const testing::Vocabulary& vocabulary = *vocabularies_[1];
  const auto compiler = make_compiler(vocabulary);
  for (const GrammarSpec& spec :
       {regex_spec("\xf1\xa1\xa6\x8e"), choice_spec({"\xf1\xa1\xa6\x8e"})}) {
    EXPECT_EQ(compiler->compile(spec).status().code(), StatusCode::kInvalidArgument);
  }
  auto constraint = compiler->compile(regex_spec("a\xf1\xa1\xa6\x8e"));
  ASSERT_TRUE(constraint.ok()) << constraint.status().to_string();
  std::vector<std::uint32_t> mask(vocabulary.tokenizer.vocabulary_size() / 32 + 1);
  const TokenId end = vocabulary.ends[0];
  ASSERT_TRUE((*constraint)->allowed(mask));
  EXPECT_FALSE((*constraint)->accept(end));
  ASSERT_TRUE((*constraint)->accept(*vocabulary.tokenizer.find("a")));
  ASSERT_TRUE((*constraint)->allowed(mask));
  EXPECT_NE(mask[static_cast<std::size_t>(end) / 32] >> end % 32 & 1, 0u);
  EXPECT_TRUE((*constraint)->accept(end));
}

TEST_F(Grammars, ThreadsShareACompiler) {
  const std::uint64_t seed = testing::fresh_seed();
  GrammarLimits limits;
  limits.cached = 3;
  const auto compiler = make_compiler(small(), limits);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Walker walker(small(), seed + static_cast<std::uint64_t>(t));
      for (int i = 0; i < 20; ++i) {
        auto constraint = compiler->compile(
            regex_spec("[a-z]{1," + std::to_string(1 + walker.random()() % 6) + "}"));
        ASSERT_TRUE(constraint.ok());
        const auto text = walker.walk(**constraint);
        ASSERT_TRUE(text.has_value());
        EXPECT_LE(text->size(), 6u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace liquidgemm
