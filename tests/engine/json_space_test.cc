// White space in JSON, a token at a time, against what a look at the whole text says.
#include "engine/grammar/json_space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "fresh_seed.h"

namespace liquidgemm {
namespace {

// Whether some white space between the parts is not as printers write it.
bool has_too_much(const std::string& text) {
  bool in_string = false;
  std::string space;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : 'x';
    if (!in_string && (c == ' ' || c == '\t' || c == '\n')) {
      space += c;
      const bool is_blank = space == " ";
      const bool is_line = space[0] == '\n' && space.find('\n', 1) == std::string::npos &&
                           space.size() <= 1 + JsonSpace::kMaxIndent;
      if (!is_blank && !is_line) return true;
      continue;
    }
    space.clear();
    if (in_string && c == '\\') ++i;
    if (c == '"') in_string = !in_string;
  }
  return false;
}

std::vector<std::string> random_vocabulary(std::mt19937_64& random) {
  std::vector<std::string> texts = {"", " ", "\n", "\t", "\"", "\\", "{", "a"};
  const std::size_t size = 8 + random() % 200;
  while (texts.size() < size) {
    std::string text;
    const std::size_t length = random() % 9;
    const bool blanks = random() % 4 == 0;
    for (std::size_t i = 0; i < length; ++i)
      text += blanks ? ' ' : " \t\n\"\\{:,a  "[random() % 11];
    texts.push_back(std::move(text));
  }
  std::shuffle(texts.begin(), texts.end(), random);
  return texts;
}

TEST(JsonSpace, ForbidsWhatMakesTooMuchAndNothingElse) {
  std::mt19937_64 random(testing::fresh_seed());
  int refused = 0;
  int taken = 0;
  int deep = 0;
  for (int round = 0; round < 30; ++round) {
    const std::vector<std::string> texts = random_vocabulary(random);
    const JsonSpace space(texts);
    JsonSpace::Place place = JsonSpace::kBeginning;
    std::string text;
    // Blanks now and then, so that long indentations come.
    std::size_t blanks = 0;
    for (int step = 0; step < 300; ++step) {
      std::vector<std::uint32_t> mask((texts.size() + 31) / 32, ~0u);
      space.clear_forbidden(place, mask);
      std::vector<std::size_t> allowed;
      for (std::size_t token = 0; token < texts.size(); ++token) {
        const bool bit = (mask[token / 32] >> (token % 32) & 1u) != 0;
        const bool too_much = has_too_much(text + texts[token]);
        ASSERT_EQ(bit, !too_much) << "'" << text << "' + '" << texts[token] << "'";
        ASSERT_EQ(space.forbids(place, static_cast<TokenId>(token)), too_much);
        if (bit) allowed.push_back(token);
        ++(bit ? taken : refused);
      }
      ASSERT_FALSE(allowed.empty());
      if (blanks == 0 && random() % 20 == 0) blanks = random() % 40;
      std::size_t token = allowed[random() % allowed.size()];
      if (blanks > 0) {
        --blanks;
        const auto blank = std::find_if(allowed.begin(), allowed.end(), [&](std::size_t one) {
          return !texts[one].empty() && texts[one].find_first_not_of(" \n") == std::string::npos;
        });
        if (blank != allowed.end()) token = *blank;
      }
      text += texts[token];
      place = space.after(place, static_cast<TokenId>(token));
      if (place > JsonSpace::kMaxIndent / 2 && place <= JsonSpace::kMaxIndent) ++deep;
      // The whole text is looked at each time.
      if (text.size() > 150) {
        text.clear();
        place = JsonSpace::kBeginning;
      }
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(taken, 0);
  EXPECT_GT(deep, 0);
}

}  // namespace
}  // namespace liquidgemm
