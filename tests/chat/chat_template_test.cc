// The interpreter against Jinja2's own output (goldens.json), and what callers rely on.

#include "model/chat/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "base/json.h"

namespace liquidgemm {
namespace {

std::string data_path(const std::string& name) {
  return std::string(LIQUIDGEMM_TEST_DATA) + "/chat/" + name;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string text_of(const json::Value& value) {
  return {value.get_string().data(), value.get_string().size()};
}

// Sanitizers are slow, and a busy machine is no bug.
TemplateLimits patient() {
  TemplateLimits limits;
  limits.milliseconds = 60'000;
  return limits;
}

Result<std::string> render(const std::string& source, const json::Object& variables = {}) {
  auto parsed = ChatTemplate::parse(source, "test", patient());
  if (!parsed.ok()) return parsed.status();
  return parsed->render(variables);
}

std::string rendered(const std::string& source, const json::Object& variables = {}) {
  const auto result = render(source, variables);
  return result.ok() ? *result : result.status().to_string();
}

TEST(ChatTemplate, EqualsJinja2OnEveryGolden) {
  const auto goldens = json::parse_file(data_path("goldens.json"));
  ASSERT_TRUE(goldens.ok()) << goldens.status().to_string();
  const json::Object& root = goldens->as_object();
  int compared = 0;
  for (const json::Value& value : root.at("cases").as_array()) {
    const json::Object& golden = value.as_object();
    SCOPED_TRACE(text_of(golden.at("name")));
    json::Object variables;
    std::string source;
    if (golden.contains("file")) {
      source = read_file(data_path(text_of(golden.at("file"))));
      ASSERT_FALSE(source.empty());
      variables = root.at("common").as_object();
      variables["messages"] =
          root.at("conversations").as_object().at(golden.at("conversation").as_string());
      variables["tools"] = golden.at("tools").as_bool() ? root.at("tools") : json::Value(nullptr);
      for (const auto& more : golden.at("more").as_object()) {
        variables[more.key()] = more.value();
      }
    } else {
      source = text_of(golden.at("template"));
    }
    const auto result = render(source, variables);
    if (golden.contains("error")) {
      EXPECT_FALSE(result.ok()) << *result;
    } else {
      ASSERT_TRUE(result.ok()) << result.status().to_string();
      EXPECT_EQ(*result, text_of(golden.at("output")));
    }
    ++compared;
  }
  EXPECT_GT(compared, 400);
}

TEST(ChatTemplate, RendersAChat) {
  const auto parsed =
      ChatTemplate::parse(read_file(data_path("smollm2.jinja")), "smollm2.jinja", patient());
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  const auto text =
      render_chat(*parsed, {{"system", "Be brief."}, {"user", "Hi"}}, true, "<s>", "</s>");
  ASSERT_TRUE(text.ok()) << text.status().to_string();
  EXPECT_EQ(*text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplate, KeepsItsSourceAndMayBeRenderedAgain) {
  const std::string source = "{% set n = namespace(x=0) %}{% set n.x = n.x + 1 %}{{ n.x }}\r\n";
  const auto parsed = ChatTemplate::parse(source, "test", patient());
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->source(), source);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*parsed->render({}), "1");  // nothing stays behind
}

TEST(ChatTemplate, TakesVariablesOfEveryKind) {
  const json::Object variables{{"a", nullptr},
                               {"b", true},
                               {"c", -3},
                               {"d", 2.5},
                               {"e", "t"},
                               {"f", {1, "x"}},
                               {"g", json::Object{{"k", 1}}},
                               {"h", std::uint64_t{1} << 63}};
  EXPECT_EQ(rendered("{{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }} {{ g }} {{ h }}", variables),
            "None True -3 2.5 t [1, 'x'] {'k': 1} 9.223372036854776e+18");
}

TEST(ChatTemplate, TextThatIsNoUtf8PassesThrough) {
  const json::Object variables{{"x", "a\xFF\xC3"}};
  EXPECT_EQ(rendered("{{ x }}|{{ x | trim }}|{{ x | length }}|{{ x[1] }}", variables),
            "a\xFF\xC3|a\xFF\xC3|3|\xFF");
  EXPECT_EQ(ChatTemplate::parse("a\xFF", "t").status().code(), StatusCode::kCorrupt);
}

TEST(ChatTemplate, KnowsTheTime) {
  const std::string year = rendered("{{ strftime_now('%Y') }}");
  ASSERT_EQ(year.size(), 4u) << year;
  EXPECT_GE(std::stoi(year), 2024);
  EXPECT_EQ(rendered("[{{ strftime_now('') }}]"), "[]");
  EXPECT_EQ(rendered("{{ strftime_now('%f') | length }}"), "6");
  EXPECT_FALSE(render("{{ strftime_now('%999999999d') }}").ok());
}

struct Failure {
  std::string source;
  StatusCode code;
  std::string message;  // a part of it
};

TEST(ChatTemplate, ErrorsNameFileLineColumnAndConstruct) {
  const Failure failures[] = {
      {"a\n  {{ x.y.z }}", StatusCode::kInvalidArgument,
       "test:2:7: 'x' is undefined in `{{ x.y.z }}`"},
      {"é {{ 1 + 'a' }}", StatusCode::kInvalidArgument,
       "test:1:8: unsupported operand types for +: 'int' and 'str'"},
      {"{% if true %}\n{{ raise_exception('Bad ' ~ 1) }}{% endif %}", StatusCode::kInvalidArgument,
       "test:2:19: Bad 1"},
      {"{% if x %}", StatusCode::kCorrupt, "test:1:4: 'if' is never closed"},
      {"\n{{ 'abc }}", StatusCode::kCorrupt, "test:2:4: this string is never closed"},
      {"{{ 1 + }}", StatusCode::kCorrupt, "expected an expression, found the end of the tag"},
      {"{{ (1 }}", StatusCode::kCorrupt, "unexpected '}', expected ')'"},
      {"{# a", StatusCode::kCorrupt, "test:1:1: this comment is never closed"},
      {"{% raw %}a", StatusCode::kCorrupt, "this raw block is never closed"},
      {"{{ a", StatusCode::kCorrupt, "this tag is never closed"},
      {"{% include 'x' %}", StatusCode::kUnsupported, "the tag 'include' is not supported"},
      {"{% jump %}", StatusCode::kCorrupt, "unknown tag 'jump' in `{% jump %}`"},
      {"{% for x in y recursive %}{% endfor %}", StatusCode::kUnsupported, "recursive"},
      {"{{ 1 | urlize }}", StatusCode::kUnsupported, "there is no filter named 'urlize'"},
      {"{{ 1 is prime }}", StatusCode::kUnsupported, "there is no test named 'prime'"},
      {"{% break %}", StatusCode::kCorrupt, "'break' outside of a loop"},
      {"{% set 1 = 2 %}", StatusCode::kCorrupt, "can be assigned to"},
      {"{% set x.y = 2 %}", StatusCode::kInvalidArgument, "'x' is no namespace"},
      {"{{ [].append(1) }}", StatusCode::kInvalidArgument,
       "access to attribute 'append' of 'list' object is unsafe"},
      {"{{ ''.__class__.__mro__ }}", StatusCode::kInvalidArgument,
       "'__class__' of 'str' object is unsafe"},
      {"{{ f(1) }}", StatusCode::kInvalidArgument, "'f' is undefined"},
      {"{{ 'a'.encode() }}", StatusCode::kUnsupported, "the method 'encode'"},
      {"{{ {[]: 1} }}", StatusCode::kInvalidArgument, "unhashable type: 'list'"},
      {"{{ 99999999999999999999 }}", StatusCode::kCorrupt, "does not fit in 64 bits"},
      {"{{ 9223372036854775807 + 1 }}", StatusCode::kInvalidArgument, "does not fit in 64 bits"},
      {"{{ '\\ud800' }}", StatusCode::kCorrupt, "not a character"},
  };
  for (const Failure& failure : failures) {
    const auto result = render(failure.source);
    ASSERT_FALSE(result.ok()) << failure.source << " gave " << *result;
    EXPECT_EQ(result.status().code(), failure.code) << result.status().to_string();
    EXPECT_NE(result.status().message().find(failure.message), std::string::npos)
        << failure.source << "\n  gave " << result.status().message();
    EXPECT_EQ(result.status().message().rfind("test:", 0), 0u) << result.status().message();
  }
}

TEST(ChatTemplate, AnUnknownFilterInABranchNotTakenDoesNoHarm) {
  EXPECT_EQ(rendered("{% if false %}{{ 1 | urlize }}{% endif %}ok"), "ok");
  EXPECT_FALSE(render("{% if true %}{{ 1 | urlize }}{% endif %}").ok());
}

}  // namespace
}  // namespace liquidgemm
