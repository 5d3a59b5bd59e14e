// /v1/chat/completions: a message for each choice, with tool calls where the answer makes some.

#include <utility>

#include "server/answer.h"
#include "server/tool_parser.h"

namespace liquidgemm::server {
namespace {

class ChatAnswer : public Answer {
 public:
  ChatAnswer(const Tokenizer& tokenizer, EngineThread& engine, std::shared_ptr<HttpReply> reply,
             const ChatRequest& request, AnswerOptions options,
             const ToolParserFactory& tool_parser)
      : Answer(tokenizer, engine, std::move(reply), request.generation, std::move(options)),
        parallel_(request.parallel_tool_calls),
        choices_(static_cast<std::size_t>(request.generation.n)) {
    for (Choice& choice : choices_) {
      if (tool_parser) choice.parser = tool_parser();
    }
  }

 private:
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
  };
  struct Choice {
    std::unique_ptr<ToolParser> parser;
    bool began = false;
    std::string content;
    std::vector<Call> calls;
    std::vector<TokenInfo> tokens;
    std::string finish;
  };

  // What a piece means. Calls after the first are left out where only one is wanted.
  std::vector<ToolEvent> read(Choice& choice, const Piece& piece) {
    std::vector<ToolEvent> events;
    if (choice.parser == nullptr) {
      if (!piece.text.empty()) events.push_back({.name = {}, .text = piece.text});
    } else {
      events = choice.parser->push(piece.text);
      if (!piece.finish.empty()) {
        for (ToolEvent& event : choice.parser->finish()) events.push_back(std::move(event));
      }
    }
    std::erase_if(events, [&](const ToolEvent& event) {
      if (event.kind == ToolEvent::Kind::kContent) return event.text.empty();
      return !parallel_ && event.index > 0;
    });
    return events;
  }

  void keep(Choice& choice, ToolEvent& event) {
    switch (event.kind) {
      case ToolEvent::Kind::kContent:
        if (!generation_.stream) choice.content += event.text;
        return;
      case ToolEvent::Kind::kCall:
        choice.calls.push_back({.id = random_id("call_"), .name = event.name, .arguments = {}});
        return;
      case ToolEvent::Kind::kArguments:
        if (!generation_.stream && event.index < choice.calls.size()) {
          choice.calls[event.index].arguments += event.text;
        }
        return;
    }
  }

  static std::string finish_of(const Choice& choice, std::string_view finish) {
    return finish == "stop" && !choice.calls.empty() ? "tool_calls" : std::string(finish);
  }

  std::string delta(std::size_t index, std::string_view delta, std::string_view logprobs,
                    std::string_view finish) const {
    std::string inner = "\"delta\":";
    inner += delta;
    inner += ",\"logprobs\":";
    inner += logprobs;
    inner += ",\"finish_reason\":" + (finish.empty() ? "null" : json_string(finish));
    return event(index, inner);
  }

  static std::string delta_of(const Choice& choice, const ToolEvent& event) {
    const std::string index = std::to_string(event.index);
    switch (event.kind) {
      case ToolEvent::Kind::kContent: break;
      case ToolEvent::Kind::kCall:
        return "{\"tool_calls\":[{\"index\":" + index +
               ",\"id\":" + json_string(choice.calls.back().id) +
               ",\"type\":\"function\",\"function\":{\"name\":" + json_string(event.name) +
               ",\"arguments\":\"\"}}]}";
      case ToolEvent::Kind::kArguments:
        return "{\"tool_calls\":[{\"index\":" + index +
               ",\"function\":{\"arguments\":" + json_string(event.text) + "}}]}";
    }
    return "{\"content\":" + json_string(event.text) + "}";
  }

  std::string events_of(std::size_t index, Piece piece) override {
    Choice& choice = choices_[index];
    std::string out;
    if (!std::exchange(choice.began, true)) {
      out += delta(index, "{\"role\":\"assistant\",\"content\":\"\"}", "null", "");
    }
    std::vector<ToolEvent> events = read(choice, piece);
    // Each token is an event, even where its text is not complete yet, unless it may belong to a
    // call.
    if (events.empty() && piece.finish.empty() &&
        (choice.parser == nullptr || !piece.tokens.empty())) {
      events.push_back({});
    }
    std::string logprobs = "null";
    if (generation_.logprobs >= 0 && !piece.tokens.empty()) {
      logprobs = json::dump(chat_logprobs(tokenizer_, piece.tokens));
    }
    for (ToolEvent& event : events) {
      keep(choice, event);
      out += delta(index, delta_of(choice, event), std::exchange(logprobs, "null"), "");
    }
    if (!piece.finish.empty()) {
      out += delta(index, "{}", logprobs, finish_of(choice, piece.finish));
    }
    return out;
  }

  void collect(std::size_t index, Piece piece) override {
    Choice& choice = choices_[index];
    for (ToolEvent& event : read(choice, piece)) keep(choice, event);
    choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(piece.tokens.begin()),
                         std::make_move_iterator(piece.tokens.end()));
    choice.finish = finish_of(choice, piece.finish);
  }

  json::Object choice_object(std::size_t index) override {
    const Choice& choice = choices_[index];
    json::Object message{{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
    if (!choice.calls.empty()) {
      if (choice.content.empty()) message["content"] = nullptr;
      json::Array calls;
      for (const Call& call : choice.calls) {
        calls.push_back(json::Object{
            {"id", call.id},
            {"type", "function"},
            {"function", json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
      }
      message["tool_calls"] = std::move(calls);
    }
    json::Value logprobs = nullptr;
    if (generation_.logprobs >= 0) logprobs = chat_logprobs(tokenizer_, choice.tokens);
    return {{"index", index},
            {"message", std::move(message)},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", choice.finish}};
  }

  std::string_view object_name() const override { return "chat.completion"; }
  std::string_view chunk_name() const override { return "chat.completion.chunk"; }

  const bool parallel_;
  std::vector<Choice> choices_;
};

}  // namespace

std::shared_ptr<Answer> make_chat_answer(const Tokenizer& tokenizer, EngineThread& engine,
                                         std::shared_ptr<HttpReply> reply,
                                         const ChatRequest& request, AnswerOptions options,
                                         const ToolParserFactory& tool_parser) {
  return std::make_shared<ChatAnswer>(tokenizer, engine, std::move(reply), request,
                                      std::move(options), tool_parser);
}

}  // namespace liquidgemm::server
