#include "bench/serve_answer.h"

#include <algorithm>

#include "base/json.h"
#include "base/status_macros.h"

namespace liquidgemm::bench {
namespace {

constexpr std::size_t kMaxMessage = 300;  // characters of a server's message that are kept

std::string one_line(std::string_view text) {
  std::string line(text.substr(0, kMaxMessage));
  // Whatever a server sends, the terminal sees no control characters.
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  if (text.size() > kMaxMessage) line += "...";
  return line;
}

const json::Value* member(const json::Object& object, std::string_view name) {
  const json::Value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool has_text(const json::Object& object, std::string_view name) {
  const json::Value* value = member(object, name);
  return value != nullptr && value->is_string() && !value->get_string().empty();
}

std::optional<std::int64_t> count(const json::Object& object, std::string_view name) {
  const json::Value* value = member(object, name);
  if (value == nullptr || !value->is_int64() || value->get_int64() < 0) return std::nullopt;
  return value->get_int64();
}

std::optional<Usage> read_usage(const json::Object& event) {
  const json::Value* value = member(event, "usage");
  if (value == nullptr || !value->is_object()) return std::nullopt;
  const json::Object& object = value->get_object();
  Usage usage;
  usage.prompt_tokens = count(object, "prompt_tokens");
  usage.completion_tokens = count(object, "completion_tokens");
  if (const json::Value* details = member(object, "prompt_tokens_details");
      details != nullptr && details->is_object()) {
    usage.cached_tokens = count(details->get_object(), "cached_tokens");
  }
  return usage;
}

std::string message_of(const json::Object& object) {
  const json::Value* error = member(object, "error");
  if (error != nullptr && error->is_string()) return one_line(error->get_string());
  const json::Object* holder = error != nullptr ? error->if_object() : nullptr;
  if (error == nullptr) {
    const json::Value* kind = member(object, "object");
    if (kind != nullptr && kind->is_string() && kind->get_string() == "error") holder = &object;
  }
  if (holder != nullptr && has_text(*holder, "message")) {
    return one_line(holder->at("message").get_string());
  }
  return error != nullptr || holder != nullptr ? "an error without a message" : "";
}

void read_choice(const json::Object& choice, AnswerEvent& event) {
  event.choice = true;
  event.finished = member(choice, "finish_reason") != nullptr;
  // A token may have no text of its own: a special one, or a part of a character.
  const json::Value* delta = member(choice, "delta");
  if (delta == nullptr || !delta->is_object()) {
    event.output = has_text(choice, "text") || (choice.contains("text") && !event.finished);
    return;
  }
  const json::Object& said = delta->get_object();
  const json::Value* calls = member(said, "tool_calls");
  event.output = has_text(said, "content") || has_text(said, "reasoning_content") ||
                 has_text(said, "reasoning") || has_text(said, "refusal") ||
                 (calls != nullptr && calls->is_array() && !calls->get_array().empty()) ||
                 (said.contains("content") && !said.contains("role") && !event.finished);
}

}  // namespace

Result<AnswerEvent> read_answer_event(std::string_view data) {
  AnswerEvent event;
  if (data == "[DONE]") {
    event.done = true;
    return event;
  }
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Value value, json::parse(data, "event of the stream"));
  if (!value.is_object()) return corrupt("event of the stream: expected an object");
  const json::Object& object = value.get_object();
  event.error = message_of(object);
  event.usage = read_usage(object);
  const json::Value* choices = member(object, "choices");
  if (choices != nullptr && choices->is_array() && !choices->get_array().empty() &&
      choices->get_array()[0].is_object()) {
    read_choice(choices->get_array()[0].get_object(), event);
  }
  return event;
}

std::string error_text(std::string_view body) {
  if (const auto value = json::parse(body, "error"); value.ok() && value->is_object()) {
    const std::string message = message_of(value->get_object());
    if (!message.empty()) return message;
  }
  return one_line(body);
}

}  // namespace liquidgemm::bench
