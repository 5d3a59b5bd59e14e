// What a tokenizer.json may say, and how each lie in one is refused.
#include "tokenizer/tokenizer_test_util.h"

namespace liquidgemm {
namespace {

constexpr const char* kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
constexpr const char* kByteLevelAfterSplit =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";

// A small sound file, its parts ready to be replaced.
struct File {
  std::string added_tokens = "[]";
  std::string normalizer = "null";
  std::string pre_tokenizer = kByteLevel;
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string flags = R"("type":"BPE")";
  std::string vocab = R"({"a":0,"b":1,"ab":2})";
  std::string merges = R"(["a b"])";

  std::string text() const {
    return R"({"version":"1.0","added_tokens":)" + added_tokens + R"(,"normalizer":)" + normalizer +
           R"(,"pre_tokenizer":)" + pre_tokenizer + R"(,"post_processor":)" + post_processor +
           R"(,"decoder":)" + decoder + R"(,"model":{)" + flags + R"(,"vocab":)" + vocab +
           R"(,"merges":)" + merges + "}}";
  }
};

std::string added(const std::string& id, const std::string& content) {
  return R"({"id":)" + id + R"(,"content":")" + content +
         R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)" +
         R"("special":true})";
}

std::string split(const std::string& pattern, const std::string& behavior = "Isolated") {
  return R"({"type":"Split","pattern":{"Regex":")" + pattern + R"("},"behavior":")" + behavior +
         R"(","invert":false})";
}

std::string sequence(const std::string& members) {
  return R"({"type":"Sequence","pretokenizers":[)" + members + "]}";
}

void expect_refused(const File& file, StatusCode code, const std::string& part) {
  const auto spec = parse_tokenizer_json(file.text(), "t.json");
  ASSERT_FALSE(spec.ok()) << part;
  EXPECT_EQ(spec.status().code(), code) << spec.status().to_string();
  EXPECT_NE(spec.status().message().find(part), std::string::npos)
      << "\"" << part << "\" is not in: " << spec.status().message();
  EXPECT_NE(spec.status().message().find("t.json"), std::string::npos);
}

void expect_read(const File& file) {
  auto spec = parse_tokenizer_json(file.text(), "t.json");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  const auto tokenizer = Tokenizer::build(std::move(*spec), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_EQ(ids_text(tokenizer->encode("abb", false)), "2 1");
}

TEST(TokenizerJson, ReadsBothSpellingsOfMerges) {
  File file;
  expect_read(file);
  file.merges = R"([["a","b"]])";
  expect_read(file);
  file.merges = R"(["#version: 0.2", "a b"])";
  expect_read(file);
}

TEST(TokenizerJson, ReadsWhatChangesNoIds) {
  File file;
  file.flags = R"("dropout":0.0,"continuing_subword_prefix":"","end_of_word_suffix":"",)"
               R"("fuse_unk":false,"byte_fallback":false)";  // and no "type"
  expect_read(file);
  file.normalizer = R"({"type":"Sequence","normalizers":[{"type":"NFC"}]})";
  file.post_processor = R"({"type":"ByteLevel"})";
  file.decoder = R"({"type":"Sequence","decoders":[{"type":"ByteLevel"}]})";
  file.pre_tokenizer = sequence(kByteLevel);
  expect_read(file);
}

TEST(TokenizerJson, RefusesOtherModelsAndFlags) {
  File file;
  for (const char* type : {"WordPiece", "Unigram", "WordLevel"}) {
    file.flags = std::string(R"("type":")") + type + "\"";
    expect_refused(file, StatusCode::kUnsupported, type);
  }
  file.flags = R"("type":"BPE","dropout":0.1)";
  expect_refused(file, StatusCode::kUnsupported, "model.dropout");
  file.flags = R"("type":"BPE","end_of_word_suffix":"</w>")";
  expect_refused(file, StatusCode::kUnsupported, "end_of_word_suffix");
  file.flags = R"("type":"BPE","continuing_subword_prefix":"##")";
  expect_refused(file, StatusCode::kUnsupported, "continuing_subword_prefix");
  file.flags = R"("type":"BPE","byte_fallback":true)";
  expect_refused(file, StatusCode::kUnsupported, "byte_fallback");
  file.flags = R"("type":"BPE","unk_token":"a")";
  expect_refused(file, StatusCode::kUnsupported, "unk_token");
  file.flags = R"("type":"BPE","ignore_merges":1)";
  expect_refused(file, StatusCode::kCorrupt, "ignore_merges");
}

TEST(TokenizerJson, RefusesUnknownPatternsAndComponents) {
  File file;
  const std::string tail = std::string(",") + kByteLevelAfterSplit;
  file.pre_tokenizer = sequence(split(R"(\\p{Lu}+|\\s)") + tail);
  expect_refused(file, StatusCode::kUnsupported, R"(\p{Lu}+|\s)");
  file.pre_tokenizer = sequence(R"({"type":"Whitespace"})" + tail);
  expect_refused(file, StatusCode::kUnsupported, "Whitespace");
  file.pre_tokenizer = R"({"type":"Metaspace"})";
  expect_refused(file, StatusCode::kUnsupported, "Metaspace");
  file.pre_tokenizer = kByteLevelAfterSplit;  // without its Split
  expect_refused(file, StatusCode::kUnsupported, "use_regex");
  file.pre_tokenizer = "null";
  expect_refused(file, StatusCode::kUnsupported, "ByteLevel is missing");
  file.pre_tokenizer =
      sequence(std::string(R"({"type":"Digits","individual_digits":false},)") + kByteLevel);
  expect_refused(file, StatusCode::kUnsupported, "individual_digits");
  file.pre_tokenizer = sequence(split("x", "Removed") + tail);
  expect_refused(file, StatusCode::kUnsupported, "behavior");

  file = {};
  file.normalizer = R"({"type":"NFKC"})";
  expect_refused(file, StatusCode::kUnsupported, "NFKC");
  file = {};
  file.post_processor = R"({"type":"RobertaProcessing"})";
  expect_refused(file, StatusCode::kUnsupported, "RobertaProcessing");
  file = {};
  file.decoder = R"({"type":"WordPiece"})";
  expect_refused(file, StatusCode::kUnsupported, "decoder");
  file.decoder = "null";
  expect_refused(file, StatusCode::kUnsupported, "decoder");
}

TEST(TokenizerJson, RefusesBadVocabularies) {
  File file;
  for (const char* id : {"-1", "4194304", "9223372036854775807", "18446744073709551615", "1e30",
                         "1.5", "\"1\"", "null", "[]"}) {
    file.vocab = R"({"a":0,"b":1,"ab":)" + std::string(id) + "}";
    expect_refused(file, StatusCode::kCorrupt, "model.vocab");
  }
  file.vocab = R"({"a":0,"b":1,"ab":1})";
  expect_refused(file, StatusCode::kCorrupt, "same id 1");
  file.vocab = R"({"a":0,"a":1})";
  expect_refused(file, StatusCode::kCorrupt, "twice");
  file.vocab = R"({"a":0,"b":1,"":2,"ab":3})";
  expect_refused(file, StatusCode::kCorrupt, "no text");
  file.vocab = R"([["a",0]])";
  expect_refused(file, StatusCode::kCorrupt, "model.vocab");
  file.vocab = "{}";
  file.merges = "[]";
  expect_refused(file, StatusCode::kCorrupt, "empty");
  file.vocab = "{\"a\xff\":0}";
  EXPECT_FALSE(parse_tokenizer_json(file.text(), "t.json").ok());
  file.vocab = R"({"a":0,")" + std::string(100'000, 'x') + R"(":1})";
  expect_refused(file, StatusCode::kResourceExhausted, "bytes of text");
}

TEST(TokenizerJson, AcceptsGapsBetweenIds) {
  File file;
  file.vocab = R"({"a":7,"b":100,"ab":100000})";
  auto spec = parse_tokenizer_json(file.text(), "t.json");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  const auto tokenizer = Tokenizer::build(std::move(*spec), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_EQ(tokenizer->vocabulary_size(), 100'001);
  EXPECT_EQ(ids_text(tokenizer->encode("aab", false)), "7 100000");
  EXPECT_EQ(tokenizer->token_bytes(8), "");
}

TEST(TokenizerJson, RefusesBadMerges) {
  File file;
  for (const char* merge : {R"("a c")", R"("c b")", R"("b a")", R"(["a","c"])"}) {
    file.merges = std::string("[\"a b\",") + merge + "]";
    expect_refused(file, StatusCode::kCorrupt, "merge 1");
  }
  for (const char* merge : {R"("ab")", R"("a b c")", R"("")", R"(["a"])", R"(["a","b","c"])",
                            R"([1,2])", "5", "null"}) {
    file.merges = std::string("[") + merge + "]";
    expect_refused(file, StatusCode::kCorrupt, "expected two tokens");
  }
  file.merges = "{}";
  expect_refused(file, StatusCode::kCorrupt, "model.merges");
}

TEST(TokenizerJson, ChecksAddedTokens) {
  File file;
  file.added_tokens = "[" + added("9", "<x>") + "," + added("2", "ab") + "]";
  const auto spec = parse_tokenizer_json(file.text(), "t.json");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  for (const char* id : {"-1", "4194304", "1.5", "1e99", "\"3\""}) {
    file.added_tokens = "[" + added(id, "<x>") + "]";
    EXPECT_FALSE(parse_tokenizer_json(file.text(), "t.json").ok()) << id;
  }
  file.added_tokens = "[" + added("9", "<x>") + "," + added("9", "<y>") + "]";
  expect_refused(file, StatusCode::kCorrupt, "\"<y>\"");
  file.added_tokens = "[" + added("9", "<x>") + "," + added("8", "<x>") + "]";
  expect_refused(file, StatusCode::kCorrupt, "second id");
  file.added_tokens = "[" + added("1", "<x>") + "]";
  expect_refused(file, StatusCode::kCorrupt, "ordinary token \"b\"");
  file.added_tokens = "[" + added("9", "b") + "]";
  expect_refused(file, StatusCode::kCorrupt, "is token 1");
  file.added_tokens = "[" + added("9", "") + "]";
  expect_refused(file, StatusCode::kCorrupt, "no text");
  file.added_tokens = R"([{"id":9,"content":"<x>"}])";
  expect_refused(file, StatusCode::kCorrupt, "added_tokens");
}

TEST(TokenizerJson, BoundsTheNumberOfAddedTokens) {
  std::string list;
  for (int i = 0; i < 300'000; ++i) {
    list += (i > 0 ? "," : "[") + std::string("{\"id\":") + std::to_string(i) + "}";
  }
  File file;
  file.added_tokens = list + "]";
  expect_refused(file, StatusCode::kResourceExhausted, "300000");
}

TEST(TokenizerJson, ReadsTemplates) {
  File file;
  const std::string tokens =
      R"("special_tokens":{"<s>":{"id":"<s>","ids":[9,1],"tokens":["<s>","b"]}})";
  const auto processor = [&](const std::string& single, const std::string& special_tokens) {
    return R"({"type":"TemplateProcessing","single":[)" + single + R"(],"pair":[],)" +
           special_tokens + "}";
  };
  const std::string special = R"({"SpecialToken":{"id":"<s>","type_id":0}})";
  const std::string text = R"({"Sequence":{"id":"A","type_id":0}})";
  file.added_tokens = "[" + added("9", "<s>") + "]";
  file.post_processor = processor(special + "," + text + "," + special + "," + special, tokens);
  auto spec = parse_tokenizer_json(file.text(), "t.json");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  const auto tokenizer = Tokenizer::build(std::move(*spec), "t.json");
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(ids_text(tokenizer->encode("ab", true)), "9 1 2 9 1 9 1");
  EXPECT_EQ(ids_text(tokenizer->encode("ab", false)), "2");

  file.added_tokens = "[]";  // the template's token does not exist any more
  expect_refused(file, StatusCode::kCorrupt, "token 9");
  file.post_processor = processor(special, tokens);
  expect_refused(file, StatusCode::kCorrupt, "sequence A");
  file.post_processor = processor(text + "," + text, tokens);
  expect_refused(file, StatusCode::kUnsupported, "sequence A");
  file.post_processor = processor(special + "," + text, R"("special_tokens":{})");
  expect_refused(file, StatusCode::kCorrupt, "<s>");
  file.post_processor =
      processor(special + "," + text, R"("special_tokens":{"<s>":{"ids":[99999999999]}})");
  expect_refused(file, StatusCode::kCorrupt, "ids");
}

TEST(TokenizerJson, RefusesBrokenDocuments) {
  const std::string good = File().text();
  ASSERT_TRUE(parse_tokenizer_json(good, "t.json").ok());
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(parse_tokenizer_json(good.substr(0, length), "t.json").ok()) << length;
  }
  for (const char* text : {"[]", "null", "1", "{}", R"({"model":[]})", R"({"model":{}})"}) {
    EXPECT_FALSE(parse_tokenizer_json(text, "t.json").ok()) << text;
  }
  EXPECT_FALSE(parse_tokenizer_json(std::string(100'000, '['), "t.json").ok());
}

// A GGUF header reaches build without parse_tokenizer_json: it checks by itself.
TEST(TokenizerBuild, ChecksSpecsFromElsewhere) {
  const auto refused = [](TokenizerSpec spec) {
    const auto tokenizer = Tokenizer::build(std::move(spec), "m.gguf");
    return !tokenizer.ok() && tokenizer.status().message().starts_with("m.gguf: ");
  };
  EXPECT_TRUE(Tokenizer::build(byte_spec(), "m.gguf").ok());
  EXPECT_TRUE(refused({}));
  TokenizerSpec spec = byte_spec();
  spec.vocabulary[5] = spec.vocabulary[6];
  EXPECT_TRUE(refused(spec));
  spec = byte_spec();
  spec.vocabulary[5] = "\xc3";
  EXPECT_TRUE(refused(spec));
  spec = byte_spec();
  spec.merges.emplace_back("a", "b");
  EXPECT_TRUE(refused(spec));
  spec.merges = {{"", "a"}};
  EXPECT_TRUE(refused(spec));
  spec = byte_spec();
  spec.prefix_tokens = {256};
  EXPECT_TRUE(refused(spec));
  spec.prefix_tokens = {-1};
  EXPECT_TRUE(refused(spec));
  spec = byte_spec();
  AddedToken token;
  token.id = -7;
  token.content = "<x>";
  spec.added_tokens = {token};
  EXPECT_TRUE(refused(spec));
  token.id = 1 << 22;
  spec.added_tokens = {token};
  EXPECT_TRUE(refused(spec));
}

// Hugging Face numbers added tokens itself unless the vocabulary has them.
TEST(TokenizerJson, WritesOddIdsSoThatTheyAreKept) {
  TokenizerSpec spec = byte_spec();
  AddedToken token;
  token.id = 300;
  token.content = "<x>";
  spec.added_tokens = {token};
  auto again = parse_tokenizer_json(tokenizer_to_json(spec), "t.json");
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  ASSERT_EQ(again->vocabulary.size(), 301u);
  EXPECT_EQ(again->vocabulary[300], "<x>");
  spec.added_tokens[0].id = 256;  // the next one: no need to
  again = parse_tokenizer_json(tokenizer_to_json(spec), "t.json");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->vocabulary.size(), 256u);
}

}  // namespace
}  // namespace liquidgemm
