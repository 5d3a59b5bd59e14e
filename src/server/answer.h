// The answer to one API request: from the engine's tokens to text on the wire.
//
// An answer has one or more choices, one engine request each. Tokens come on the engine's delivery
// thread, one at a time; the client may go at any time, on any thread. What completions and chats
// have in common is here; how each writes its JSON is completion_answer.cc's and chat_answer.cc's.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "engine/text_generator.h"
#include "server/answer_json.h"
#include "server/api_error.h"
#include "server/api_request.h"
#include "server/http.h"

namespace liquidgemm::server {

struct AnswerOptions {
  std::string id;
  std::string model;  // as the answer names it
  std::int64_t created = 0;
  std::vector<std::int64_t> prompt_tokens;  // of each prompt
  bool drop_answer = false;                 // max_tokens was 0: the answer's one token is not shown
  std::chrono::milliseconds time_limit{0};  // behind the requests' deadline, for the error
};

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(const Tokenizer& tokenizer, EngineThread& engine, std::shared_ptr<HttpReply> reply,
         const GenerationParams& generation, AnswerOptions options);
  virtual ~Answer() = default;
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // Hands one request for each choice to the engine: prompt by prompt, n for each.
  void start(std::vector<Request> requests);

 protected:
  // What one token, or the end, adds to one choice.
  struct Piece {
    std::string text;
    std::vector<TokenInfo> tokens;
    std::string_view finish;  // "stop", "length"; empty: it goes on
  };

  // The server-sent events of a piece, each "data: ...\n\n". Empty: nothing to show yet.
  virtual std::string events_of(std::size_t index, Piece piece) = 0;
  // Keeps a piece for choice_object().
  virtual void collect(std::size_t index, Piece piece) = 0;
  virtual json::Object choice_object(std::size_t index) = 0;
  virtual std::string_view object_name() const = 0;
  virtual std::string_view chunk_name() const = 0;
  // The prompt's logits are there; called before the choice's first piece.
  virtual void set_prompt_logprobs(std::size_t, std::vector<PositionLogprobs>) {}
  // Characters before the choice's first token.
  virtual std::size_t first_offset(std::size_t) const { return 0; }

  // {"index": i, <inner>} within a chunk, as one event.
  std::string event(std::size_t index, std::string_view inner) const;

  const Tokenizer& tokenizer_;
  const GenerationParams generation_;
  const AnswerOptions options_;

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, const GenerationParams& generation)
        : detokenizer(tokenizer, generation.skip_special_tokens), stops(generation.stops) {}

    StreamingDetokenizer detokenizer;
    StopFilter stops;
    std::size_t characters = 0;  // of the answer so far, stop strings and all
    std::int64_t tokens = 0;
    bool done = false;
    std::int64_t cached_tokens = 0;
    std::vector<PositionLogprobs> prompt_logprobs;
    bool began = false;
  };

  void update(std::size_t index, const Update& update);
  Piece make_piece(Choice& choice, const Update& update, bool& stopped);
  void emit(std::size_t index, Piece piece);
  bool write(std::string chunk);
  void complete();
  void fail(const ApiError& error);
  void cancel_all();
  Usage usage() const;
  std::string head(std::string_view object) const;

  EngineThread& engine_;
  const std::shared_ptr<HttpReply> reply_;
  std::string chunk_head_;  // what every event of a stream begins with

  // The delivery thread's own once the engine has the requests.
  std::vector<Choice> choices_;
  std::size_t done_ = 0;
  bool streaming_ = false;  // the stream has begun
  bool closed_ = false;     // nothing more is written

  std::mutex mutex_;  // guards the two below
  std::vector<RequestId> ids_;
  bool gone_ = false;
};

std::shared_ptr<Answer> make_completion_answer(const Tokenizer& tokenizer, EngineThread& engine,
                                               std::shared_ptr<HttpReply> reply,
                                               const CompletionRequest& request,
                                               AnswerOptions options,
                                               std::vector<std::vector<TokenId>> prompts);

class ToolParser;
// One for each choice; null where the answer is text alone.
using ToolParserFactory = std::function<std::unique_ptr<ToolParser>()>;
std::shared_ptr<Answer> make_chat_answer(const Tokenizer& tokenizer, EngineThread& engine,
                                         std::shared_ptr<HttpReply> reply,
                                         const ChatRequest& request, AnswerOptions options,
                                         const ToolParserFactory& tool_parser);

}  // namespace liquidgemm::server
