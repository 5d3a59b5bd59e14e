// A hostile text of a megabyte must not take longer than an ordinary one by more than a factor.
#include <ctime>

#include "model/tokenizer/normalize.h"
#include "tokenizer/tokenizer_test_util.h"

namespace liquidgemm {
namespace {

// This thread's time: other work on the machine does not count.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

constexpr std::size_t kBytes = kSanitized ? 100'000 : 1'000'000;
constexpr double kSeconds = 2.0;

std::string repeated(const std::string& unit, std::size_t bytes = kBytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

class LinearTimeTest : public testing::TestWithParam<const char*> {};

TEST_P(LinearTimeTest, OfAnyText) {
  const Tokenizer tokenizer = load_tokenizer(GetParam());
  std::vector<std::string> texts;
  for (const char* unit : {"a", " ", "\n", "1", "\u0301"}) texts.push_back(repeated(unit));
  for (const char* unit :
       {"\r\n", " \n", "'", "<", "aaab ", "<|im_start|", "<|im_end|>", "<R> ",
        "\u0345\u0301\u0323\u0334", "\u00a0", "\u4e2d", "\U0001f600", "\xff", "\x85"}) {
    texts.push_back(repeated(unit, kBytes / 4));
  }
  texts.push_back(repeated(" ") + "x");
  texts.push_back("<R>" + repeated(" ") + "<L>");
  texts.push_back("a" + repeated("\u0345", kBytes / 4) + repeated("\u0334", kBytes / 4));
  for (const std::string& text : texts) {
    const double start = thread_seconds();
    const auto ids = tokenizer.encode(text, false);
    EXPECT_LT(thread_seconds() - start, kSeconds) << text.substr(0, 16);
    EXPECT_FALSE(ids.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LinearTimeTest,
                         testing::Values("gpt2", "smollm", "llama3", "qwen2", "added"),
                         [](const auto& param_info) { return std::string(param_info.param); });

// Each of these would need lookahead as long as the longest token from every place.
TEST(AddedTokens, LongOnesThatNearlyMatchTakeLinearTime) {
  TokenizerSpec spec = byte_spec();
  const std::string a(60'000, 'a');
  for (int i = 0; i < 40; ++i) {
    AddedToken token;
    token.id = 300 + i;
    token.content = a.substr(static_cast<std::size_t>(i)) + "b";
    spec.added_tokens.push_back(token);
  }
  const auto tokenizer = Tokenizer::build(std::move(spec), "long");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  const std::string text = repeated("a");
  const double start = thread_seconds();
  EXPECT_EQ(tokenizer->encode(text, false).size(), text.size());
  EXPECT_LT(thread_seconds() - start, kSeconds);
}

TEST(AddedTokens, ManyAreReadInBoundedTime) {
  TokenizerSpec spec = byte_spec();
  constexpr int kCount = kSanitized ? 20'000 : 200'000;
  for (int i = 0; i < kCount; ++i) {
    AddedToken token;
    token.id = 256 + i;
    token.content = "<extra_" + std::to_string(i) + ">";
    spec.added_tokens.push_back(token);
  }
  const double start = thread_seconds();
  const auto tokenizer = Tokenizer::build(std::move(spec), "many");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_LT(thread_seconds() - start, 4.0);
  EXPECT_EQ(ids_text(tokenizer->encode("<extra_7><extra_77>", false)), "263 333");
}

}  // namespace
}  // namespace liquidgemm
