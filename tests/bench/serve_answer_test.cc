// What a server streams is read alike however it is cut.
#include "bench/serve_answer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "bench/serve_event_stream.h"
#include "fresh_seed.h"

namespace liquidgemm::bench {
namespace {

using testing::fresh_seed;
using Strings = std::vector<std::string>;

Strings read_all(const Strings& pieces) {
  EventStream stream;
  Strings events;
  for (const std::string& piece : pieces) EXPECT_TRUE(stream.feed(piece, events).ok());
  EXPECT_TRUE(stream.finish(events).ok());
  return events;
}

TEST(EventStream, ReadsWhatTheStandardAllows) {
  EXPECT_EQ(read_all({"data: a\n\ndata:b\r\n\r\ndata:  c\r\r"}), (Strings{"a", "b", " c"}));
  EXPECT_EQ(read_all({"\xef\xbb\xbf"
                      "data: a\n\n"}),
            (Strings{"a"}));
  EXPECT_EQ(read_all({": ping\n\nevent: x\nid: 7\nretry: 1\ndata: a\ndata\ndata: b\n\n\n\n"}),
            (Strings{"a\n\nb"}));
  EXPECT_EQ(read_all({"datum: a\n\ndata\n\n"}), (Strings{""})) << "an empty data line is data";
  EXPECT_EQ(read_all({"data: {}\n\ndata: [DONE]"}), (Strings{"{}", "[DONE]"}))
      << "the last line may lack its end";
  EXPECT_EQ(read_all({"", "\n", ""}), Strings{});
}

TEST(EventStream, DoesNotDependOnWhereTheBytesAreCut) {
  std::mt19937_64 random(fresh_seed());
  const auto pick = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  const Strings ends = {"\n", "\r\n", "\r"};
  const Strings contents = {"{\"a\": 1}", "[DONE]", "x: y", "\xc3\xa4\xe2\x82\xac", "", "data: "};
  for (int round = 0; round < 300; ++round) {
    const std::string& end = ends[pick(ends.size())];
    std::string bytes;
    Strings expected;
    for (std::size_t events = 1 + pick(6); events > 0; --events) {
      if (pick(3) == 0) bytes += ": comment" + end;
      if (pick(4) == 0) bytes += "event: message" + end;
      std::string joined;
      for (std::size_t line = 0, lines = 1 + pick(3); line < lines; ++line) {
        const std::string& content = contents[pick(contents.size())];
        bytes += "data: " + content + end;
        joined += (line > 0 ? "\n" : "") + content;
      }
      bytes += end;
      expected.push_back(joined);
    }
    Strings pieces;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = pick(2) == 0 ? 1 : 1 + pick(bytes.size() - at);
      pieces.push_back(bytes.substr(at, size));
      at += size;
    }
    ASSERT_EQ(read_all(pieces), expected) << bytes;
  }
}

TEST(EventStream, AnEventHasALimit) {
  EventStream stream;
  Strings events;
  const std::string line = "data: " + std::string(1 << 20, 'x') + "\n";
  Status status;
  for (int i = 0; i < 8 && status.ok(); ++i) status = stream.feed(line, events);
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_TRUE(events.empty());
}

AnswerEvent event_of(const std::string& data) {
  auto event = read_answer_event(data);
  EXPECT_TRUE(event.ok()) << event.status().message();
  return event.ok() ? *event : AnswerEvent{};
}

TEST(AnswerEvent, KnowsOutputFromTheRest) {
  const auto output = [](const std::string& choice) {
    return event_of("{\"choices\": [" + choice + "]}").output;
  };
  EXPECT_TRUE(output(R"({"text": "a", "finish_reason": null})"));
  EXPECT_TRUE(output(R"({"text": "a", "finish_reason": "length"})"));
  EXPECT_TRUE(output(R"({"text": "", "finish_reason": null})")) << "a token without text";
  EXPECT_FALSE(output(R"({"text": "", "finish_reason": "stop"})"));
  EXPECT_FALSE(output(R"({"delta": {"role": "assistant", "content": ""}})"));
  EXPECT_FALSE(output(R"({"delta": {"role": "assistant", "content": null}})"));
  EXPECT_TRUE(output(R"({"delta": {"role": "assistant", "content": "a"}})"));
  EXPECT_TRUE(output(R"({"delta": {"content": ""}, "finish_reason": null})"));
  EXPECT_TRUE(output(R"({"delta": {"reasoning_content": "a"}})"));
  EXPECT_TRUE(output(R"({"delta": {"tool_calls": [{"index": 0}]}})"));
  EXPECT_FALSE(output(R"({"delta": {}, "finish_reason": "stop"})"));
  EXPECT_TRUE(event_of(R"({"choices": [{"delta": {}, "finish_reason": "stop"}]})").finished);
  EXPECT_TRUE(event_of("[DONE]").done);
}

TEST(AnswerEvent, ReadsUsageAndErrors) {
  const AnswerEvent last = event_of(
      R"({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7,
          "prompt_tokens_details": {"cached_tokens": 3}}})");
  ASSERT_TRUE(last.usage);
  EXPECT_EQ(last.usage->prompt_tokens, 5);
  EXPECT_EQ(last.usage->completion_tokens, 7);
  EXPECT_EQ(last.usage->cached_tokens, 3);
  EXPECT_FALSE(last.choice || last.output || last.finished);
  EXPECT_FALSE(event_of(R"({"usage": null})").usage);
  EXPECT_FALSE(event_of(R"({"usage": {"completion_tokens": -1}})").usage->completion_tokens);

  EXPECT_EQ(event_of(R"({"error": {"message": "too\nlong"}})").error, "too long");
  EXPECT_EQ(event_of(R"({"error": "busy"})").error, "busy");
  EXPECT_EQ(event_of(R"({"object": "error", "message": "no"})").error, "no");
  EXPECT_FALSE(event_of(R"({"error": {}})").error.empty());
  EXPECT_EQ(event_of(R"({"error": null})").error, "");
  for (const char* wrong : {"", "{", "[]", "1", "{\"choices\": [}"}) {
    EXPECT_FALSE(read_answer_event(wrong).ok()) << wrong;
  }
  EXPECT_EQ(error_text(R"({"error": {"message": "no such model"}})"), "no such model");
  EXPECT_EQ(error_text("plain\x1b[31m"), "plain [31m");
  EXPECT_EQ(error_text(std::string(1000, 'x')), std::string(300, 'x') + "...");
}

}  // namespace
}  // namespace liquidgemm::bench
