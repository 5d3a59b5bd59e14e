// The ids and texts that Hugging Face `tokenizers` gives (tests/data/tokenizer/make_goldens.py).
#include <thread>

#include "model/tokenizer/utf8.h"
#include "tokenizer/tokenizer_test_util.h"

namespace liquidgemm {
namespace {

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, EncodesAsHuggingFace) {
  const std::string name = GetParam();
  const Tokenizer tokenizer = load_tokenizer(name);
  const auto strings = golden_strings();
  const auto golden = lines_of(read_data(name + ".ids"));
  const auto special = lines_of(read_data(name + ".special.ids"));
  ASSERT_GE(strings.size(), 2000u);
  ASSERT_EQ(golden.size(), strings.size());
  for (std::size_t i = 0; i < strings.size(); ++i) {
    EXPECT_EQ(ids_text(tokenizer.encode(strings[i], false)), golden[i]) << i << strings[i];
  }
  for (std::size_t i = 0; i < special.size(); ++i) {
    EXPECT_EQ(ids_text(tokenizer.encode(strings[i], true)), special[i]) << i << strings[i];
  }
}

TEST_P(GoldenTest, DecodesAsHuggingFace) {
  const std::string name = GetParam();
  const Tokenizer tokenizer = load_tokenizer(name);
  const auto lines = lines_of(read_data(name + ".decode.jsonl"));
  ASSERT_FALSE(lines.empty());
  for (const std::string& line : lines) {
    const auto parsed = json::parse(line, "golden");
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    const json::Array& entry = (*parsed).as_array();
    std::vector<TokenId> ids;
    for (const auto& id : entry[0].as_array()) ids.push_back(static_cast<TokenId>(id.as_int64()));
    EXPECT_EQ(tokenizer.decode(ids, entry[1].as_bool()), string_of(entry[2])) << line;
  }
}

// What is written must mean the same when read; make_goldens.py --check asks Hugging Face.
TEST_P(GoldenTest, SurvivesBeingWritten) {
  const std::string name = GetParam();
  const TokenizerSpec spec = load_spec(name);
  const std::string text = tokenizer_to_json(spec);
  auto again = parse_tokenizer_json(text, "written");
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->vocabulary, spec.vocabulary);
  EXPECT_EQ(again->merges, spec.merges);
  EXPECT_EQ(again->prefix_tokens, spec.prefix_tokens);
  EXPECT_EQ(again->suffix_tokens, spec.suffix_tokens);
  EXPECT_EQ(tokenizer_to_json(*again), text);
  auto tokenizer = Tokenizer::build(std::move(*again), "written");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  const auto strings = golden_strings();
  const auto golden = lines_of(read_data(name + ".ids"));
  for (std::size_t i = 0; i < strings.size(); i += 7) {
    EXPECT_EQ(ids_text(tokenizer->encode(strings[i], false)), golden[i]) << strings[i];
  }
}

TEST_P(GoldenTest, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = load_tokenizer(GetParam());
  const auto strings = golden_strings();
  const auto golden = lines_of(read_data(std::string(GetParam()) + ".ids"));
  std::vector<int> wrong(3, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 300; ++i) {
        wrong[t] += ids_text(tokenizer.encode(strings[i], false)) == golden[i] ? 0 : 1;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         testing::Values("gpt2", "smollm", "llama3", "qwen2", "added"),
                         [](const auto& param_info) { return std::string(param_info.param); });

// Neither normalisation nor an added space stands between these texts and their ids.
TEST(Tokenizer, DecodeUndoesEncode) {
  for (const char* name : {"gpt2", "smollm", "llama3"}) {
    const Tokenizer tokenizer = load_tokenizer(name);
    for (const std::string& text : golden_strings()) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true), false),
                tokenizer.decode(tokenizer.spec().prefix_tokens, false) + repair_utf8(text));
    }
  }
}

TEST(Tokenizer, FindsTokens) {
  const Tokenizer tokenizer = load_tokenizer("smollm");
  ASSERT_EQ(tokenizer.find("<|im_end|>"), std::optional<TokenId>(2));
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.token_bytes(2), "<|im_end|>");
  const auto the = tokenizer.find(" the");
  ASSERT_TRUE(the.has_value());
  EXPECT_EQ(tokenizer.token_bytes(*the), " the");
  EXPECT_FALSE(tokenizer.is_special(*the));
  EXPECT_FALSE(tokenizer.find("no such token").has_value());
  EXPECT_FALSE(tokenizer.find("").has_value());
  const auto size = static_cast<TokenId>(tokenizer.vocabulary_size());
  for (const TokenId id : {-1, size, size + 1, 1 << 30}) {
    EXPECT_EQ(tokenizer.token_bytes(id), "");
    EXPECT_FALSE(tokenizer.is_special(id));
  }
}

}  // namespace
}  // namespace liquidgemm
