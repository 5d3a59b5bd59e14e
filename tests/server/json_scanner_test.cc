// The scanner agrees with Boost.JSON, byte for byte.

#include "server/json_scanner.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/json.h"
#include "fresh_seed.h"

namespace liquidgemm::server {
namespace {

// `text` is one object or array, begun and ended.
bool scans(const std::string& text) {
  JsonScanner scanner;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (scanner.push(text[i]) == JsonScanner::Token::kError) return false;
    if (scanner.depth() == 0) return i + 1 == text.size();
  }
  return false;
}

// What one of the two refuses and the other does not, on purpose.
bool is_known_difference(const std::string& message) {
  for (const char* reason : {"appears twice", "too large for a double", "exponent"}) {
    if (message.find(reason) != std::string::npos) return true;
  }
  return false;
}

void expect_agreement(const std::string& text) {
  const auto parsed = json::parse(text, "test");
  if (parsed.ok()) {
    EXPECT_TRUE(scans(text)) << text;
  } else if (!is_known_difference(parsed.status().message())) {
    EXPECT_FALSE(scans(text)) << text << "\n" << parsed.status().message();
  }
}

TEST(JsonScanner, Grammar) {
  for (const char* text :
       {"{}", "[]", "[ ]", "{ }", R"({"a":1})", R"([1,-0,0.5,1e5,1E+5,-1.25e-7,true,false,null])",
        R"(["\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"])", "[[[{\"a\":[{}]}]]]", "[\"\xc3\xa9\"]",
        "[1 , 2\n]"}) {
    EXPECT_TRUE(scans(text)) << text;
    expect_agreement(text);
  }
  for (const char* text : {"{]",
                           "[}",
                           "[1,]",
                           R"({"a"})",
                           R"({"a":})",
                           R"({"a":1,})",
                           R"({1:2})",
                           "[01]",
                           "[-]",
                           "[1.]",
                           "[.5]",
                           "[1e]",
                           "[1e+]",
                           "[+1]",
                           "[tru]",
                           "[truex]",
                           "[nul]",
                           "['a']",
                           R"(["\x"])",
                           R"(["\u12g4"])",
                           R"(["\ud83d"])",
                           R"(["\ud83dx"])",
                           R"(["\ud83d\n"])",
                           R"(["\ud83d\ud83d"])",
                           R"(["\ude00"])",
                           "[\"\n\"]",
                           "[\"a",
                           "[1",
                           "{\"a\":1",
                           "[1 2]",
                           "[--1]",
                           "[1-2]",
                           "[NaN]",
                           "[Infinity]",
                           "{{}}",
                           R"({"a":1 "b":2})",
                           R"({"a" 1})"}) {
    EXPECT_FALSE(scans(text)) << text;
    expect_agreement(text);
  }
}

TEST(JsonScanner, Depth) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(scans(nested(JsonScanner::kMaxDepth)));
  EXPECT_FALSE(scans(nested(JsonScanner::kMaxDepth + 1)));
  JsonScanner scanner;
  for (int depth = 1; depth <= JsonScanner::kMaxDepth; ++depth) {
    EXPECT_EQ(scanner.push('['), JsonScanner::Token::kOpenArray);
    EXPECT_EQ(scanner.depth(), depth);
  }
  EXPECT_EQ(scanner.push('['), JsonScanner::Token::kError);
}

// Good JSON with a few bytes changed is mostly bad in interesting places.
TEST(JsonScanner, ChangedBytes) {
  std::mt19937_64 random(testing::fresh_seed());
  const std::string good =
      R"({"a":[1,-2.5e+3,true,null,{"b":"x\"\\\u00e9\ud83d\ude00"}],"c":{},"d":[],"e":0})";
  const std::string alphabet = R"({}[]",:\/ue0123456789.+-truefalsn dD)";
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (std::size_t change = 1 + random() % 3; change > 0; --change) {
      const std::size_t at = 1 + random() % (text.size() - 1);
      const char byte = alphabet[random() % alphabet.size()];
      switch (random() % 3) {
        case 0: text[at] = byte; break;
        case 1: text.insert(at, 1, byte); break;
        default: text.erase(at, 1); break;
      }
    }
    expect_agreement(text);
  }
}

}  // namespace
}  // namespace liquidgemm::server
