#include "model/tokenizer/utf8.h"
#include "tokenizer/tokenizer_test_util.h"

namespace liquidgemm {
namespace {

class StreamingTest : public RandomTest {};

TEST_F(StreamingTest, ConcatenationEqualsDecodeAndNoCharacterIsSplit) {
  const Tokenizer tokenizer = load_tokenizer("llama3");
  const auto size = static_cast<int>(tokenizer.vocabulary_size());
  for (int round = 0; round < 3000; ++round) {
    const bool skip = round % 2 == 0;
    std::vector<TokenId> ids;
    // Mostly single bytes, where characters break; some ids that do not exist.
    for (int n = below(20); n > 0; --n) ids.push_back(below(4) == 0 ? below(size + 3) : below(256));
    StreamingDetokenizer stream(tokenizer, skip);
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      text += piece;
    }
    text += stream.flush();
    EXPECT_EQ(text, tokenizer.decode(ids, skip)) << ids_text(ids);
    EXPECT_EQ(stream.flush(), "");
  }
}

TEST_F(StreamingTest, WholeCharactersComeAtOnce) {
  const auto tokenizer = Tokenizer::build(byte_spec(), "bytes");
  ASSERT_TRUE(tokenizer.ok());
  const std::string emoji = "\xf0\x9f\x98\x80";
  StreamingDetokenizer stream(*tokenizer, false);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(stream.push(static_cast<unsigned char>(emoji[i])), "");
  EXPECT_EQ(stream.push(static_cast<unsigned char>(emoji[3])), emoji);
  EXPECT_EQ(stream.push('a'), "a");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push('b'),
            "\xef\xbf\xbd"
            "b");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.flush(), "\xef\xbf\xbd");
}

}  // namespace
}  // namespace liquidgemm
