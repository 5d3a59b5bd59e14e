// Templates that want too much stop with an error: soon, in bounded memory, without a crash.

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>

#include "model/chat/chat_template.h"

namespace liquidgemm {
namespace {

std::string repeated(const std::string& part, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += part;
  return out;
}

TemplateLimits patient() {
  TemplateLimits limits;
  limits.milliseconds = 60'000;  // the other limits are what is tested
  return limits;
}

Status outcome(const std::string& source, const TemplateLimits& limits = patient()) {
  auto parsed = ChatTemplate::parse(source, "test", limits);
  if (!parsed.ok()) return parsed.status();
  const auto result = parsed->render({});
  return result.ok() ? ok_status() : result.status();
}

void expect_exhausted(const std::string& source) {
  const Status status = outcome(source);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted)
      << source.substr(0, 100) << "\n  " << status.to_string();
}

TEST(ChatLimits, Steps) {
  expect_exhausted(
      "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}");
  expect_exhausted("{% set a = range(50000) | list %}{% for i in a %}{{ i in a }}{% endfor %}");
  expect_exhausted("{{ [0] * 10 ** 9 }}");
  expect_exhausted("{{ [[[0] * 999] * 999] * 999 }}");
  expect_exhausted("{% for a in range(100000) %}{{ ('x' * 100000) | length }}{% endfor %}");
}

TEST(ChatLimits, TextAndMemory) {
  expect_exhausted("{{ 'a' * 10 ** 9 }}");
  expect_exhausted("{{ 10 ** 9 * 'abc' }}");
  expect_exhausted(
      "{% set n = namespace(s='ab') %}{% for i in range(100) %}{% set n.s = n.s + n.s %}{% endfor "
      "%}");
  expect_exhausted(
      "{% set n = namespace(s='ab') %}{% for i in range(100) %}{% set n.s = n.s ~ n.s %}{% endfor "
      "%}");
  expect_exhausted("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}");
  expect_exhausted(
      "{% set x %}{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}");
  expect_exhausted("{{ ('a' * 4000).replace('', 'b' * 4000) }}");
  expect_exhausted("{{ ('a,' * 4000).split(',') | join('b' * 4000) }}");
  expect_exhausted("{{ 'a' | indent(10 ** 12) }}{{ [1] | tojson(indent=10 ** 12) }}");
  expect_exhausted("{{ 'x'.center(10 ** 12) }}");
  expect_exhausted("{{ range(10 ** 12) }}");
  // Many texts that each fit, all kept.
  expect_exhausted(
      "{% set n = namespace(l=[]) %}{% for i in range(5000) %}"
      "{% set n.l = n.l + ['a' * 1000000 ~ i] %}{% endfor %}");
  EXPECT_FALSE(outcome("{{ '%999999999d' % 1 }}").ok());
  EXPECT_FALSE(outcome("{{ '{:>999999999}'.format(1) }}").ok());
}

TEST(ChatLimits, SharedValuesThatUnfoldWithoutEnd) {
  // Each round doubles what printing, comparing or dumping has to walk over.
  const std::string twofold =
      "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(100) %}"
      "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}";
  expect_exhausted(twofold + "{{ n.a }}");
  expect_exhausted(twofold + "{{ n.a == n.b }}");
  expect_exhausted(twofold + "{{ n.a < n.b }}");
  expect_exhausted(twofold + "{{ n.a | tojson }}");
}

TEST(ChatLimits, DepthOfTheTemplate) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int deepest = 20'000;
#else
  const int deepest = 100'000;
#endif
  for (const int depth : {1'000, deepest}) {
    expect_exhausted("{{ " + repeated("(", depth) + "1" + repeated(")", depth) + " }}");
    expect_exhausted("{{ " + repeated("[", depth) + repeated("]", depth) + " }}");
    expect_exhausted("{{ " + repeated("{1:", depth) + "1" + repeated("}", depth) + " }}");
    expect_exhausted("{{ " + repeated("not ", depth) + "1 }}");
    expect_exhausted("{{ " + repeated("-", depth) + "1 }}");
    expect_exhausted("{{ 1" + repeated(" + 1", depth) + " }}");
    expect_exhausted("{{ 1" + repeated(" ** 1", depth) + " }}");
    expect_exhausted("{{ 1" + repeated(" or 1", depth) + " }}");
    expect_exhausted("{{ 1" + repeated(" if 1 else 1", depth) + " }}");
    expect_exhausted("{{ x" + repeated(".x", depth) + " }}");
    expect_exhausted("{{ x" + repeated("[0]", depth) + " }}");
    expect_exhausted("{{ x" + repeated("()", depth) + " }}");
    expect_exhausted("{{ x" + repeated("(x", depth) + repeated(")", depth) + " }}");
    expect_exhausted("{{ 1" + repeated("|abs", depth) + " }}");
    expect_exhausted(repeated("{% if 1 %}", depth) + repeated("{% endif %}", depth));
    expect_exhausted(repeated("{% for x in [1] %}", depth) + repeated("{% endfor %}", depth));
    expect_exhausted(repeated("{% set x %}", depth) + repeated("{% endset %}", depth));
    expect_exhausted("{% set " + repeated("(", depth) + "x" + repeated(")", depth) + " = 1 %}");
  }
  // Long, but flat: no nesting, no limit.
  EXPECT_TRUE(outcome(repeated("{% if 1 %}{% endif %}", 5'000)).ok());
  EXPECT_TRUE(outcome("{{ [" + repeated("1,", 5'000) + "] | length }}").ok());
  EXPECT_TRUE(outcome("{{ 'a'" + repeated(" ~ 'a'", 5'000) + " }}").ok());
  EXPECT_TRUE(outcome("{% if 0 %}" + repeated("{% elif 0 %}", 5'000) + "{% endif %}").ok());
  // What is used in earnest has room.
  EXPECT_TRUE(outcome("{{ " + repeated("(", 100) + "1" + repeated(")", 100) + " }}").ok());
}

TEST(ChatLimits, DepthOfTheRun) {
  expect_exhausted("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}");
  expect_exhausted("{% macro m() %}{% for x in [1] %}{{ m() }}{% endfor %}{% endmacro %}{{ m() }}");
  expect_exhausted(
      "{% set n = namespace(a=[]) %}{% for i in range(1000) %}{% set n.a = [n.a] %}{% endfor %}");
  expect_exhausted(
      "{% set n = namespace(a={}) %}{% for i in range(1000) %}{% set n.a = {'k': n.a} %}{% endfor "
      "%}");
  expect_exhausted(
      "{% set n = namespace(a='') %}{% for i in range(1000) %}"
      "{% set n.a = [n.a] | map('list') %}{% endfor %}{{ n.a }}");
  expect_exhausted("{% set n = namespace() %}{% set n.n = n %}{{ n }}");
  // Each call leaves a macro whose scope lies inside the one before.
  expect_exhausted(
      "{% set n = namespace() %}"
      "{% macro outer() %}{% macro m() %}{% macro k() %}{{ caller }}{% endmacro %}"
      "{% set n.f = k %}{% endmacro %}{% set n.f = m %}{% endmacro %}{{ outer() }}"
      "{% macro r() %}{{ r() }}{% endmacro %}{{ n.f() }}{{ r() }}");
  // A schema twenty levels deep is no attack.
  EXPECT_TRUE(outcome("{% macro m(n) %}{% if n %}{% for x in [1] %}{{ m(n - 1) }}{% endfor %}"
                      "{% endif %}{% endmacro %}{{ m(20) }}")
                  .ok());
}

TEST(ChatLimits, LongChainsOfReferencesAreFreedWithoutRecursion) {
  EXPECT_TRUE(outcome("{% set n = namespace(p=none) %}{% for i in range(20000) %}"
                      "{% set n.p = namespace(p=n.p) %}{% endfor %}")
                  .ok());
  EXPECT_TRUE(outcome("{% set n = namespace(p=none) %}{% for i in range(20000) %}"
                      "{% for x in [n.p] %}{% set n.p = loop %}{% endfor %}{% endfor %}")
                  .ok());
}

TEST(ChatLimits, SlowSearchesTakeLinearTime) {
  const std::string big = "{% set a = 'a' * 1000000 %}{% set b = 'a' * 100000 ~ 'b' %}";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(outcome(big + "{{ b in a }}{{ a.find(b) }}{{ a.rfind('b' ~ a) }}{{ a.count(b) }}"
                            "{{ a.replace(b, '') | length }}{{ a.split(b) | length }}")
                  .ok());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 20.0);  // a quadratic search takes minutes
  for (const std::string tail : {"{{ a.rsplit() | length }}", "{{ a.rsplit('ab') | length }}",
                                 "{{ a.split() | length }}", "{{ a | wordcount }}"}) {
    (void)outcome("{% set a = 'ab ' * 300000 %}" + tail);  // may exceed a budget, never hang
  }
}

TEST(ChatLimits, WallClock) {
  TemplateLimits limits;
  limits.milliseconds = 30;
  limits.steps = INT64_MAX / 2;
  const auto start = std::chrono::steady_clock::now();
  const Status status = outcome(
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", limits);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.to_string();
  EXPECT_NE(status.message().find("30 milliseconds"), std::string::npos) << status.to_string();
  EXPECT_LT(took.count(), 10.0);
}

TEST(ChatLimits, OversizedSource) {
  TemplateLimits limits;
  limits.output_bytes = 100;
  EXPECT_EQ(outcome(std::string(101, 'a'), limits).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(outcome(std::string(100, 'a'), limits).ok());
}

TEST(ChatLimits, DeepVariablesAreRefused) {
  const auto parsed = ChatTemplate::parse("{{ x }}", "test");
  ASSERT_TRUE(parsed.ok());
  json::Value deep = 1;
  for (int i = 0; i < 200; ++i) deep = json::Array{deep};
  EXPECT_FALSE(parsed->render({{"x", deep}}).ok());
}

// Pieces of templates in random order: whatever comes out, nothing breaks.
TEST(ChatLimits, RandomTemplatesNeverCrash) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  static const std::string kParts[] = {
      "{{",       "}}",      "{%",         "%}",       "{#",
      "#}",       "-",       "+",          " if ",     " for ",
      " in ",     " else ",  " endif ",    " endfor ", " set ",
      " endset ", " macro ", " endmacro ", " call ",   " raw ",
      " endraw ", " is ",    " not ",      " and ",    "x",
      "loop",     "ns",      "'a'",        "\"b\"",    "1",
      "2.5",      "-3",      "(",          ")",        "[",
      "]",        "{",       "}",          ".",        ",",
      ":",        "|",       "~",          "*",        "**",
      "/",        "//",      "%",          "==",       "<",
      "=",        "\n",      "\\",         "é",        "namespace()",
      "range(3)", "items()", "list",       "tojson",   "map('upper')",
      "join",     "[::-1]",  "messages",   "caller()", "\xF0\x9F\x98\x80",
      "'\\x41'",  "\r\n",    "\0"};
  TemplateLimits limits;
  limits.steps = 2'000;
  limits.output_bytes = 1 << 16;
  limits.milliseconds = 60'000;
  const json::Object variables{{"messages", json::Array{json::Object{{"role", "user"}}}},
                               {"x", "text"}};
  for (int round = 0; round < 3'000; ++round) {
    std::string source;
    const int parts = 1 + static_cast<int>(random() % 30);
    for (int i = 0; i < parts; ++i) source += kParts[random() % std::size(kParts)];
    auto parsed = ChatTemplate::parse(source, "random", limits);
    if (parsed.ok()) (void)parsed->render(variables);
  }
}

}  // namespace
}  // namespace liquidgemm
