#include "server/tool_call_reader.h"

#include <optional>

#include "base/json.h"

namespace liquidgemm::server {
namespace {

// The text of a JSON string, quotes included. Nothing when it is no Unicode text.
std::optional<std::string> unquoted(const std::string& quoted) {
  if (quoted.find('\\') == std::string::npos) return quoted.substr(1, quoted.size() - 2);
  const auto value = json::parse(quoted, "tool call");
  if (!value.ok() || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

}  // namespace

void ToolEvents::content(std::string_view text) { add(ToolEvent::Kind::kContent, 0, text); }

void ToolEvents::call(std::string name) {
  events_.push_back({ToolEvent::Kind::kCall, calls_++, std::move(name), {}});
}

void ToolEvents::arguments(std::string_view text) {
  add(ToolEvent::Kind::kArguments, calls_ - 1, text);
}

void ToolEvents::add(ToolEvent::Kind kind, std::size_t index, std::string_view text) {
  if (text.empty()) return;
  if (events_.empty() || events_.back().kind != kind) events_.push_back({kind, index, {}, {}});
  events_.back().text += text;
}

ToolCallReader::State ToolCallReader::push(char byte, ToolEvents& events) {
  const JsonScanner::Token token = scanner_.push(byte);
  if (token == JsonScanner::Token::kError) return State::kBroken;
  if (recording_) quoted_ += byte;
  if (!in_arguments_) {
    const State state = on_token(token, events);
    if (state != State::kReading || !in_arguments_) return state;
  }
  if (announced_) {
    events.arguments({&byte, 1});
  } else {
    arguments_ += byte;
  }
  if (scanner_.depth() == 1) in_arguments_ = false;
  return State::kReading;
}

ToolCallReader::State ToolCallReader::on_token(JsonScanner::Token token, ToolEvents& events) {
  using Token = JsonScanner::Token;
  const int depth = scanner_.depth();
  if (depth == 0) return on_end(events);
  if (depth == 2 && (token == Token::kOpenObject || token == Token::kOpenArray)) {
    if (member_ == Member::kOther) return State::kReading;
    if (member_ == Member::kName || token == Token::kOpenArray) return State::kBroken;
    has_arguments_ = in_arguments_ = true;
    if (has_name_) announce(events);
    return State::kReading;
  }
  if (depth != 1) return State::kReading;
  switch (token) {
    case Token::kKeyBegin:
      quoted_ = '"';
      recording_ = true;
      return State::kReading;
    case Token::kKeyEnd: return on_key();
    case Token::kStringBegin:
      if (member_ == Member::kArguments) return State::kBroken;
      if (member_ != Member::kName) return State::kReading;
      quoted_ = '"';
      recording_ = true;
      return State::kReading;
    case Token::kStringEnd: return member_ == Member::kName ? on_name() : State::kReading;
    case Token::kScalarBegin: return member_ == Member::kOther ? State::kReading : State::kBroken;
    default: return State::kReading;
  }
}

ToolCallReader::State ToolCallReader::on_key() {
  recording_ = false;
  const auto key = unquoted(quoted_);
  if (!key.has_value()) return State::kBroken;
  member_ = Member::kOther;
  if (*key == "name" && !has_name_) member_ = Member::kName;
  if ((*key == "arguments" || *key == "parameters") && !has_arguments_) {
    member_ = Member::kArguments;
  }
  return State::kReading;
}

ToolCallReader::State ToolCallReader::on_name() {
  recording_ = false;
  auto name = unquoted(quoted_);
  if (!name.has_value() || names_.count(*name) == 0) return State::kBroken;
  name_ = std::move(*name);
  has_name_ = true;
  return State::kReading;
}

ToolCallReader::State ToolCallReader::on_end(ToolEvents& events) {
  if (announced_) return State::kDone;
  if (!has_name_ || (needs_arguments_ && !has_arguments_)) return State::kBroken;
  announce(events);
  events.arguments(has_arguments_ ? arguments_ : "{}");
  return State::kDone;
}

void ToolCallReader::announce(ToolEvents& events) {
  announced_ = true;
  events.call(name_);
}

}  // namespace liquidgemm::server
