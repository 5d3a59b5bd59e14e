// Answers with tool calls: however the text is cut, the same events, and no text is lost.

#include "server/tool_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "fresh_seed.h"
#include "server/tagged_tool_parser.h"

namespace liquidgemm::server {
namespace {

const std::vector<std::string> kNames = {"f", "get_weather", "größe"};

// Events as one text: "text", f(arguments) and text again, with neighbours of one kind joined.
class Transcript {
 public:
  void add(const std::vector<ToolEvent>& events) {
    for (const ToolEvent& event : events) {
      switch (event.kind) {
        case ToolEvent::Kind::kContent:
          EXPECT_FALSE(event.text.empty());
          enter('c');
          text_ += event.text;
          content_ += event.text;
          break;
        case ToolEvent::Kind::kCall:
          EXPECT_EQ(event.index, arguments_.size());
          enter('n');
          text_ += event.name;
          arguments_.emplace_back();
          break;
        case ToolEvent::Kind::kArguments:
          ASSERT_FALSE(arguments_.empty());
          EXPECT_EQ(event.index + 1, arguments_.size());
          enter('a');
          text_ += event.text;
          arguments_.back() += event.text;
          break;
      }
    }
  }
  const std::string& text() const { return text_; }
  const std::string& content() const { return content_; }
  const std::vector<std::string>& arguments() const { return arguments_; }

 private:
  void enter(char kind) {
    if (kind == kind_ && kind != 'n') return;
    kind_ = kind;
    text_ += kind == 'c' ? "«text»" : kind == 'n' ? "«call»" : "«arguments»";
  }

  char kind_ = '\0';
  std::string text_;
  std::string content_;
  std::vector<std::string> arguments_;
};

Transcript fed_whole(ToolFormat format, const std::string& text) {
  const auto parser = make_tool_parser(format, kNames);
  Transcript transcript;
  transcript.add(parser->push(text));
  transcript.add(parser->finish());
  return transcript;
}

Transcript fed_in_pieces(ToolFormat format, const std::string& text, std::mt19937_64& random,
                         std::size_t longest) {
  const auto parser = make_tool_parser(format, kNames);
  Transcript transcript;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = random() % (longest + 1);
    transcript.add(parser->push(std::string_view(text).substr(at, size)));
    at += std::min(size, text.size() - at);
  }
  transcript.add(parser->finish());
  return transcript;
}

void expect_the_same_in_pieces(ToolFormat format, const std::string& text, const std::string& whole,
                               std::mt19937_64& random) {
  std::mt19937_64 ones(0);
  EXPECT_EQ(fed_in_pieces(format, text, ones, 1).text(), whole) << text;
  for (const std::size_t longest : {3, 12, 60}) {
    EXPECT_EQ(fed_in_pieces(format, text, random, longest).text(), whole) << text;
  }
}

struct Case {
  std::string answer;
  std::string events;
};

void expect_events(ToolFormat format, const std::vector<Case>& cases) {
  std::mt19937_64 random(testing::fresh_seed());
  for (const Case& c : cases) {
    EXPECT_EQ(fed_whole(format, c.answer).text(), c.events) << c.answer;
    expect_the_same_in_pieces(format, c.answer, c.events, random);
  }
}

// Content, unchanged.
void expect_no_call(ToolFormat format, const std::vector<std::string>& answers) {
  std::vector<Case> cases;
  for (const std::string& answer : answers) cases.push_back({answer, "«text»" + answer});
  expect_events(format, cases);
}

TEST(HermesToolParser, Calls) {
  expect_events(
      ToolFormat::kHermes,
      {{"", ""},
       {R"(<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>)",
        R"(«call»f«arguments»{"a": 1})"},
       {"<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "«call»f«arguments»{}"},
       // Text before, between and behind; white space between calls belongs to neither.
       {"I will ask.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"b\": [2]}}\n</tool_call>\n",
        "«text»I will ask.\n«call»f«arguments»{\"a\": 1}«call»get_weather«arguments»{\"b\": [2]}"},
       {R"(<tool_call>{"name":"f","arguments":{}}</tool_call> and <tool_call>{"name":"f",)"
        R"("arguments":{}}</tool_call> done)",
        "«call»f«arguments»{}«text» and «call»f«arguments»{}«text» done"},
       {"\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "«call»f«arguments»{}"},
       // Braces, tags, escapes and Unicode inside of strings; arguments exactly as written.
       {R"(<tool_call>{"name":"f","arguments":{"a":"}{\"\\</tool_call>\u00e9é","b":{"c":[{}]}}}</tool_call>)",
        R"(«call»f«arguments»{"a":"}{\"\\</tool_call>\u00e9é","b":{"c":[{}]}})"},
       {R"(<tool_call>{"name":"gr\u00f6\u00dfe","arguments":{ "x" : 1e3 }}</tool_call>)",
        R"(«call»größe«arguments»{ "x" : 1e3 })"},
       // Members in any order, unknown ones, the other word, a name alone, one said twice.
       {R"(<tool_call>{"arguments":{"a":[1]},"name":"f"}</tool_call>)",
        R"(«call»f«arguments»{"a":[1]})"},
       {R"(<tool_call>{"id":7,"x":{"name":"g"},"name":"f","parameters":{},"y":[]}</tool_call>)",
        "«call»f«arguments»{}"},
       {R"(<tool_call>{"name":"f"}</tool_call>)", "«call»f«arguments»{}"},
       {R"(<tool_call>{"name":"f","name":"g","arguments":{},"arguments":3}</tool_call>)",
        "«call»f«arguments»{}"},
       // The close tag may be missing.
       {R"(<tool_call>{"name":"f","arguments":{}})", "«call»f«arguments»{}"},
       {R"(<tool_call>{"name":"f","arguments":{}} <tool_call>{"name":"f","arguments":{}})",
        "«call»f«arguments»{}«call»f«arguments»{}"},
       {R"(<tool_call>{"name":"f","arguments":{}} so)", "«call»f«arguments»{}«text» so"},
       // A beginning that is none, directly before one that is.
       {R"(<<tool_<tool_call><tool_call>{"name":"f","arguments":{}}</tool_call></tool_call>)",
        "«text»<<tool_<tool_call>«call»f«arguments»{}«text»</tool_call>"}});
}

TEST(HermesToolParser, NoCalls) {
  expect_no_call(ToolFormat::kHermes,
                 {"plain",
                  " \n ",
                  "a < b",
                  "<",
                  "<tool_call",
                  "<tool_call>",
                  "<tool_call> \n",
                  "</tool_call>",
                  "<tool_call>f()</tool_call>",
                  "<tool_call>[]</tool_call>",
                  "<tool_call>{}</tool_call>",
                  R"(<tool_call>{"name":"unknown","arguments":{}}</tool_call>)",
                  R"(<tool_call>{"name":3,"arguments":{}}</tool_call>)",
                  R"(<tool_call>{"name":{},"arguments":{}}</tool_call>)",
                  R"(<tool_call>{"name":"f","arguments":[]}</tool_call>)",
                  R"(<tool_call>{"name":"f","arguments":null}</tool_call>)",
                  R"(<tool_call>{"name":"f","arguments":"{}"}</tool_call>)",
                  R"(<tool_call>{"name":"f" "arguments":{}}</tool_call>)",
                  R"(<tool_call>{"name":"f","argu)",
                  R"(<tool_call>{"arguments":{"a":1}}</tool_call>)",
                  R"(<tool_call>{"arguments":{"a":1},"name":"f",}</tool_call>)",
                  R"(<tool_call>{"\ud800":1,"name":"f","arguments":{}}</tool_call>)",
                  R"({"name":"f","arguments":{}})",
                  "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}"});
}

// JSON that breaks or ends in the middle of arguments that were told already: they stay as they
// are, invalid, and the text behind them is content.
TEST(HermesToolParser, BrokenArguments) {
  expect_events(
      ToolFormat::kHermes,
      {{R"(<tool_call>{"name":"f","arguments":{"a":1, "b)", R"(«call»f«arguments»{"a":1, "b)"},
       {R"(<tool_call>{"name":"f","arguments":{"a":1]} x</tool_call>)",
        R"(«call»f«arguments»{"a":1«text»]} x</tool_call>)"},
       {R"(<tool_call>{"name":"f","arguments":{"a":</tool_call> so)",
        R"(«call»f«arguments»{"a":«text» so)"},
       // Only the call's own last brace is missing: nothing is wrong with the arguments.
       {R"(<tool_call>{"name":"f","arguments":{"a":1}</tool_call>)",
        R"(«call»f«arguments»{"a":1})"}});
}

TEST(Llama3ToolParser, Calls) {
  expect_events(
      ToolFormat::kLlama3,
      {{"", ""},
       {R"({"name": "f", "parameters": {"a": 1}})", R"(«call»f«arguments»{"a": 1})"},
       {R"(<|python_tag|>{"name": "f", "parameters": {"a": 1}})", R"(«call»f«arguments»{"a": 1})"},
       {R"( {"type": "function", "name": "f", "arguments": {}} )", "«call»f«arguments»{}"},
       {R"({"name":"f","parameters":{}}; {"name":"get_weather","parameters":{"b":";"}};)",
        R"(«call»f«arguments»{}«call»get_weather«arguments»{"b":";"})"},
       {"<|python_tag|>{\"name\":\"f\",\"parameters\":{}}\n"
        "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}",
        "«call»f«arguments»{}«call»f«arguments»{}"},
       {R"(Sure. <|python_tag|>{"name":"f","parameters":{}} ok)",
        "«text»Sure. «call»f«arguments»{}«text» ok"},
       {R"({"name":"f","parameters":{}}; no)", "«call»f«arguments»{}«text»; no"},
       {R"({"name":"f","parameters":{}};;{"name":"f","parameters":{}})",
        R"(«call»f«arguments»{}«text»;;{"name":"f","parameters":{}})"},
       {R"({"name":"f","parameters":{"a":tru} {"name":"f","parameters":{}})",
        R"(«call»f«arguments»{"a":tru«text»} {"name":"f","parameters":{}})"}});
}

TEST(Llama3ToolParser, NoCalls) {
  expect_no_call(
      ToolFormat::kLlama3,
      {"plain", ";", "; {}", "{", "{}", R"({"a": [1, 2]})", R"({"name": "f"})",
       R"({"name": "unknown", "parameters": {}})", R"({"name": "f", "parameters": []})",
       R"({"name": "f", "parameters)", R"(x {"name": "f", "parameters": {}})",
       "<|python_tag|>print(1)", "<|python", "<tool_call>{\"name\":\"f\",\"arguments\":{}}"});
}

// What is sure is told at once: nothing but what may yet become something else is held back.
TEST(ToolParser, TellsEarly) {
  const auto parser = make_tool_parser(ToolFormat::kHermes, kNames);
  auto events = parser->push("Yes <b> <tool_ca");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].text, "Yes <b> ");
  EXPECT_TRUE(parser->push("ll>{\"name\": \"f\", \"arguments\": ").empty());
  events = parser->push("{\"a\"");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, ToolEvent::Kind::kCall);
  EXPECT_EQ(events[0].name, "f");
  EXPECT_EQ(events[1].text, "{\"a\"");
  events = parser->push(": 1}");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].text, ": 1}");
}

TEST(ToolParser, Formats) {
  const auto format = [](std::string_view name, std::string_view chat_template = "") {
    const auto result = parse_tool_format(name, chat_template);
    EXPECT_TRUE(result.ok());
    return result.ok() ? *result : ToolFormat::kNone;
  };
  EXPECT_EQ(format("none", "<tool_call>"), ToolFormat::kNone);
  EXPECT_EQ(format("hermes"), ToolFormat::kHermes);
  EXPECT_EQ(format("llama3_json"), ToolFormat::kLlama3);
  EXPECT_EQ(format("auto", "within <tool_call></tool_call> tags"), ToolFormat::kHermes);
  EXPECT_EQ(format("auto", "{{ '<|python_tag|>' }}"), ToolFormat::kLlama3);
  EXPECT_EQ(format("auto", "<tool_call>\n<function=f>"), ToolFormat::kNone);
  EXPECT_EQ(format("auto", "{{ message.content }}"), ToolFormat::kNone);
  EXPECT_EQ(parse_tool_format("hermes2", "").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(make_tool_parser(ToolFormat::kNone, kNames), nullptr);
}

std::string random_json(std::mt19937_64& random, int depth) {
  static const std::vector<std::string> kScalars = {"0",
                                                    "-1.5e-3",
                                                    "true",
                                                    "null",
                                                    R"("")",
                                                    R"("}{][\",:")",
                                                    R"("\\")",
                                                    R"("<tool_call>")",
                                                    R"("\ud83d\ude00 ü")",
                                                    R"("</tool_call>;")"};
  const std::size_t kind = depth == 0 ? 0 : random() % 3;
  if (kind == 0) return kScalars[random() % kScalars.size()];
  std::string text(1, kind == 1 ? '[' : '{');
  for (std::size_t i = random() % 4; i > 0; --i) {
    if (kind == 2) text += "\"k" + std::to_string(i) + "\": ";
    text += random_json(random, depth - 1) + (i > 1 ? "," : "");
  }
  return text + (kind == 1 ? ']' : '}');
}

// Answers made of known parts: exactly these come out again.
TEST(ToolParser, RandomCalls) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 300; ++round) {
    std::string answer;
    std::string expected;
    bool after_text = false;
    for (std::size_t part = random() % 6; part > 0; --part) {
      if (!after_text && random() % 2 == 0) {
        const std::string text = "x < y {\"a\": 1} " + std::to_string(random());
        answer += text;
        expected += "«text»" + text;
        after_text = true;
        continue;
      }
      const std::string arguments = "{\"a\":" + random_json(random, 4) + "}";
      answer += "<tool_call>{\"name\":\"f\",\"arguments\":" + arguments + "}</tool_call>";
      expected += "«call»f«arguments»" + arguments;
      after_text = false;
    }
    EXPECT_EQ(fed_whole(ToolFormat::kHermes, answer).text(), expected);
    expect_the_same_in_pieces(ToolFormat::kHermes, answer, expected, random);
  }
}

// Without a call all text comes back; with calls, whatever is told stands in the text in order,
// and arguments are the beginning of valid JSON.
TEST(ToolParser, RandomTextIsNotLost) {
  std::mt19937_64 random(testing::fresh_seed());
  const std::vector<std::string> kParts = {"<tool_call>",
                                           "</tool_call>",
                                           "<|python_tag|>",
                                           "{",
                                           "}",
                                           "[",
                                           "]",
                                           "\"",
                                           "\\",
                                           ":",
                                           ",",
                                           ";",
                                           " ",
                                           "\n",
                                           "<",
                                           "name",
                                           "\"name\":\"f\"",
                                           "\"arguments\":{",
                                           "\"parameters\":{",
                                           "1",
                                           "{\"name\":\"f\",\"arguments\":{\"a\":1}}",
                                           "ü",
                                           "\"name\": \"nobody\"",
                                           "text"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (std::size_t part = random() % 20; part > 0; --part)
      text += kParts[random() % kParts.size()];
    for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kLlama3}) {
      const Transcript whole = fed_whole(format, text);
      expect_the_same_in_pieces(format, text, whole.text(), random);
      if (whole.arguments().empty()) {
        EXPECT_EQ(whole.content(), text);
      }
      for (const std::string& arguments : whole.arguments()) {
        JsonScanner scanner;
        for (const char byte : arguments) {
          EXPECT_NE(scanner.push(byte), JsonScanner::Token::kError) << text;
        }
        if (scanner.depth() > 0) continue;
        const auto parsed = json::parse(arguments, "test");
        const std::string& message = parsed.status().message();
        EXPECT_TRUE(parsed.ok() || message.find("appears twice") != std::string::npos) << arguments;
      }
    }
  }
}

std::string repeated(const std::string& part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

// A megabyte of what is hardest, in small pieces: each byte is looked at twice at most.
TEST(ToolParser, LinearInTheAnswer) {
  const std::size_t size = 1u << 20;
  const std::string call = R"(<tool_call>{"name":"f","arguments":{"a":)";
  const std::string bare = R"({"name":"f","parameters":{"a":)";
  const std::vector<std::string> answers = {
      repeated("<", size),
      repeated("<tool_call", size),
      repeated("<tool_call>", size),
      repeated("<tool_call>{", size),
      repeated("<tool_call>{\"", size),
      repeated("<tool_call>{\"name\":\"f\",", size),
      repeated("</tool_call>", size),
      repeated("<|python_tag|>", size),
      repeated("<|python_tag|>{", size),
      repeated(" ", size),
      repeated("{", size),
      repeated("[", size),
      "<tool_call>" + repeated(" ", size),
      "<tool_call>{\"" + repeated("a", size),
      "<tool_call>{\"name\":\"" + repeated("\\u0066", size),
      "<tool_call>{" + repeated("\"name\":\"f\",", size),
      "<tool_call>{\"arguments\":{\"a\":\"" + repeated("\\\"", size),
      call + repeated("[", size),
      call + "\"" + repeated("</tool_call>", size),
      call + repeated("1", size),
      repeated(call + "1}}</tool_call>", size),
      repeated(call + "1]", size),
      bare + repeated("\"", size),
      repeated(bare + "1}};", size),
      repeated(bare + "1}", size),
  };
  for (const std::string& answer : answers) {
    for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kLlama3}) {
      const auto parser = make_tool_parser(format, kNames);
      std::size_t told = 0;
      for (std::size_t at = 0; at < answer.size(); at += 5) {
        const auto piece = std::string_view(answer).substr(at, 5);
        for (const ToolEvent& event : parser->push(piece)) told += event.text.size();
      }
      for (const ToolEvent& event : parser->finish()) told += event.text.size();
      EXPECT_LE(told, answer.size());
      const auto* tagged = dynamic_cast<const TaggedToolParser*>(parser.get());
      ASSERT_NE(tagged, nullptr);
      EXPECT_LE(tagged->steps(), 2 * answer.size() + 2) << answer.substr(0, 60);
    }
  }
}

}  // namespace
}  // namespace liquidgemm::server
