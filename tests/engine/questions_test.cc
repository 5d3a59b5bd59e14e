// A real model answers five questions with one-word answers: what FP32 knows, W4A8 knows too.
#include <atomic>
#include <cstdio>

#include "base/json.h"
#include "base/mapped_file.h"
#include "engine/model_fixture.h"
#include "engine/text_generator.h"
#include "model/quantizer.h"
#include "smollm2_path.h"

namespace liquidgemm {
namespace {

struct Question {
  std::string text;
  std::string expected;
};

std::vector<Question> read_questions() {
  const std::string path = std::string(LIQUIDGEMM_TEST_DATA) + "/model/questions.json";
  auto value = json::parse_file(path);
  EXPECT_TRUE(value.ok()) << value.status().to_string();
  std::vector<Question> questions;
  if (!value.ok()) return questions;
  for (const json::Value& entry : value->at("questions").as_array()) {
    questions.push_back({std::string(entry.at("question").as_string()),
                         std::string(entry.at("expected").as_string())});
  }
  return questions;
}

// For each question: does the greedy answer hold the word?
std::vector<bool> ask(const ModelSource& source, Precision precision, KvFormat kv_format,
                      const std::vector<Question>& questions) {
  LoadOptions load;
  load.precision = precision;
  load.group_size = default_group_size(source.config);
  load.limits = {.max_rows = 128,
                 .max_sequences = 1,
                 .max_logits_rows = 1,
                 .max_position = 192,
                 .pages = 3,
                 .kv_format = kv_format};
  auto model = load_model(source, load);
  EXPECT_TRUE(model.ok()) << model.status().to_string();
  std::vector<bool> right;
  if (!model.ok()) return right;
  EXPECT_NE(model->chat_template, nullptr);
  const std::atomic<bool> interrupt = false;
  for (const Question& question : questions) {
    auto prompt = render_chat(*model->chat_template, {{"user", question.text}}, true,
                              model->bos_token, model->eos_token);
    EXPECT_TRUE(prompt.ok()) << prompt.status().to_string();
    if (!prompt.ok()) return right;
    Engine engine(*model->backend);
    GenerateOptions options;
    options.sampling.temperature = 0.0f;
    options.max_tokens = 16;
    auto answer = generate(
        *model, engine, model->tokenizer->encode(*prompt, false), options, [](std::string_view) {},
        interrupt);
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    if (!answer.ok()) return right;
    right.push_back(answer->text.find(question.expected) != std::string::npos);
    std::printf("%s: %s -> %s\n", std::string(precision_name(model->precision)).c_str(),
                question.text.c_str(), answer->text.c_str());
  }
  return right;
}

TEST(Questions, W4A8AnswersWhatFp32Answers) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "too slow with sanitizers; the small checkpoints run the same code";
#endif
  const std::string path = smollm2_path();
  if (!MappedFile::open(path).ok()) {
    GTEST_SKIP() << "needs " << path << " (scripts/demo.sh downloads it)";
  }
  auto source = open_model_source(path);
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  const std::vector<Question> questions = read_questions();
  ASSERT_EQ(questions.size(), 5u);

  const auto fp32 = ask(*source, Precision::kFp32, KvFormat::kF32, questions);
  EXPECT_EQ(fp32, std::vector<bool>(5, true)) << "the questions were chosen so that FP32 knows";
  const auto w4a8 = ask(*source, Precision::kW4A8, KvFormat::kF16, questions);
  ASSERT_EQ(w4a8.size(), fp32.size());
  int both = 0;
  for (std::size_t i = 0; i < fp32.size(); ++i) both += fp32[i] && w4a8[i];
  EXPECT_GE(both, 4);
}

}  // namespace
}  // namespace liquidgemm
