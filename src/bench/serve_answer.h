// What the events of a streamed answer say, of completions and of chats.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "liquidgemm/status.h"

namespace liquidgemm::bench {

// As the server counts; what it does not say is not there.
struct Usage {
  std::optional<std::int64_t> prompt_tokens;
  std::optional<std::int64_t> completion_tokens;
  std::optional<std::int64_t> cached_tokens;  // of the prompt, from the server's prefix cache
};

struct AnswerEvent {
  bool done = false;      // "[DONE]"
  bool choice = false;    // about the answer: its time is the answer's end so far
  bool output = false;    // the model put something out; a role or a finish reason alone is nothing
  bool finished = false;  // has a finish reason
  std::optional<Usage> usage;
  std::string error;  // the server's message where the event is an error
};

// Error: no JSON object.
Result<AnswerEvent> read_answer_event(std::string_view data);

// The message of an error body in OpenAI's shape, or else the body's beginning; one line.
std::string error_text(std::string_view body);

}  // namespace liquidgemm::bench
