// The parts against slow, obvious versions of themselves.
#include <algorithm>
#include <map>

#include "model/tokenizer/added_token_matcher.h"
#include "model/tokenizer/normalize.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/utf8.h"
#include "tokenizer/tokenizer_test_util.h"

namespace liquidgemm {
namespace {

class PartsTest : public RandomTest {
 protected:
  std::string letters(int longest, int alphabet) {
    std::string text;
    for (int n = below(longest + 1); n > 0; --n)
      text.push_back(static_cast<char>('a' + below(alphabet)));
    return text;
  }
};

TEST_F(PartsTest, MatcherFindsTheLeftmostLongest) {
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> patterns;
    for (int n = 1 + below(6); n > 0; --n) patterns.push_back(letters(5, 2));
    const std::string text = letters(40, 2);
    std::string expected;
    for (std::size_t start = 0; start < text.size();) {
      std::size_t best = 0;
      for (const auto& pattern : patterns) {
        if (pattern.size() > best && text.compare(start, pattern.size(), pattern) == 0) {
          best = pattern.size();
        }
      }
      if (best > 0) expected += std::to_string(start) + ":" + text.substr(start, best) + " ";
      start += std::max<std::size_t>(best, 1);
    }
    std::string found;
    for (const auto& match : AddedTokenMatcher(patterns).find(text)) {
      EXPECT_EQ(text.substr(match.start, match.end - match.start), patterns[match.pattern]);
      found += std::to_string(match.start) + ":" + patterns[match.pattern] + " ";
    }
    EXPECT_EQ(found, expected) << text;
  }
}

TEST_F(PartsTest, MergesInTheOrderOfRank) {
  for (int round = 0; round < 300; ++round) {
    TokenizerSpec spec = byte_spec();
    // Random merges over {a, b}: each joins two tokens that exist already.
    std::vector<std::string> known{"a", "b"};
    for (int n = below(12); n > 0; --n) {
      const std::string left =
          known[static_cast<std::size_t>(below(static_cast<int>(known.size())))];
      const std::string right =
          known[static_cast<std::size_t>(below(static_cast<int>(known.size())))];
      if (std::find(known.begin(), known.end(), left + right) == known.end()) {
        known.push_back(left + right);
        spec.vocabulary.push_back(left + right);
      }
      spec.merges.emplace_back(left, right);
    }
    std::map<std::pair<std::string, std::string>, std::size_t> ranks;
    for (std::size_t i = 0; i < spec.merges.size(); ++i) ranks[spec.merges[i]] = i;

    const std::string text = letters(60, 2);
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    for (;;) {
      std::size_t best = ranks.size() + spec.merges.size();
      std::size_t where = 0;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find({parts[i], parts[i + 1]});
        if (found != ranks.end() && found->second < best) {
          best = found->second;
          where = i;
        }
      }
      if (best == ranks.size() + spec.merges.size()) break;
      parts[where] += parts[where + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
    const auto tokenizer = Tokenizer::build(std::move(spec), "random");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
    std::vector<std::string> tokens;
    for (const TokenId id : tokenizer->encode(text, false))
      tokens.emplace_back(tokenizer->token_bytes(id));
    EXPECT_EQ(tokens, parts) << text;
  }
}

TEST_F(PartsTest, WordsCoverTheTextOnce) {
  const auto strings = golden_strings();
  for (const auto kind : {PreTokenizer::kGpt2, PreTokenizer::kLlama3, PreTokenizer::kQwen2}) {
    for (const std::string& bytes : strings) {
      const std::string text = repair_utf8(bytes);
      for (std::size_t start = 0; start < text.size();) {
        const std::size_t end = word_end(kind, text, start);
        ASSERT_GT(end, start) << text;
        ASSERT_LE(end, text.size()) << text;
        EXPECT_TRUE(is_valid_utf8(std::string_view(text).substr(start, end - start))) << text;
        start = end;
      }
    }
  }
}

std::string words(PreTokenizer kind, std::string_view text) {
  std::string out;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = word_end(kind, text, start);
    out += "[" + std::string(text.substr(start, end - start)) + "]";
    start = end;
  }
  return out;
}

TEST(PreTokenizers, CutAsTheirPatternsSay) {
  EXPECT_EQ(words(PreTokenizer::kGpt2, "I'LL they're 'so  x\n\n y 12345!? "),
            "[I]['][LL][ they]['re][ '][so][ ][ x][\n\n][ y][ 12345][!?][ ]");
  EXPECT_EQ(words(PreTokenizer::kLlama3, "I'LL they're 'so  x\n\n y 12345!?\n "),
            "[I]['LL][ they]['re][ '][so][ ][ x][\n\n][ y][ ][123][45][!?\n][ ]");
  EXPECT_EQ(words(PreTokenizer::kQwen2, "a 123 \n\t\n b$c\n"),
            "[a][ ][1][2][3][ \n\t\n][ b][$c][\n]");
  // The long s is an s where case is ignored.
  EXPECT_EQ(words(PreTokenizer::kQwen2, "x'\u017fy"), "[x]['\u017f][y]");
  EXPECT_EQ(words(PreTokenizer::kGpt2, "x'\u017fy"), "[x]['][\u017fy]");
}

TEST(Utf8, RepairsMaximalParts) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(repair_utf8("a\xf0\x9f\x98z"), "a" + r + "z");
  EXPECT_EQ(repair_utf8("\xed\xa0\x80"), r + r + r);  // a surrogate
  EXPECT_EQ(repair_utf8("\xc0\xaf\xe0\x80\xf4\x90"), r + r + r + r + r + r);
  EXPECT_EQ(repair_utf8("\xe2\x82"), r);
  EXPECT_EQ(repair_utf8("\xe2\x82\xac\xff"), "\xe2\x82\xac" + r);
}

TEST(Utf8, EveryCodePointSurvives) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(c, text);
    ASSERT_TRUE(is_valid_utf8(text)) << static_cast<std::uint32_t>(c);
    ASSERT_TRUE(code_point_at(text, 0).value == c);
    ASSERT_TRUE(code_point_before(text, text.size()).value == c);
    ASSERT_EQ(code_point_at(text, 0).length, text.size());
  }
}

TEST(ByteAlphabet, IsOneToOne) {
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  const std::string text = alphabet_text_of_bytes(all);
  EXPECT_EQ(bytes_of_alphabet_text(text), all);
  EXPECT_EQ(alphabet_text_of_bytes(" \n"), "\u0120\u010a");
  EXPECT_FALSE(bytes_of_alphabet_text("a b").has_value());
  EXPECT_FALSE(bytes_of_alphabet_text("\u0144").has_value());
}

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(normalize_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(normalize_nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(normalize_nfc("\u212b"), "\u00c5");
  EXPECT_EQ(normalize_nfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(normalize_nfc("\u0958"), "\u0915\u093c");  // excluded from composition
  // Newer than Hugging Face's tables: the mark U+1AC1 stays where it is.
  EXPECT_EQ(normalize_nfc("a\u1ac1\u0323"), "a\u1ac1\u0323");
  EXPECT_EQ(normalize_nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  for (const std::string& bytes : golden_strings()) {
    const std::string once = normalize_nfc(repair_utf8(bytes));
    EXPECT_EQ(normalize_nfc(once), once);
  }
}

}  // namespace
}  // namespace liquidgemm
