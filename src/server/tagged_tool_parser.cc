#include "server/tagged_tool_parser.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace liquidgemm::server {
namespace {

bool is_space(char byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }

}  // namespace

TaggedToolParser::TaggedToolParser(const ToolDialect& dialect, std::vector<std::string> names)
    : dialect_(dialect),
      names_(std::make_move_iterator(names.begin()), std::make_move_iterator(names.end())) {}

std::vector<ToolEvent> TaggedToolParser::push(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (state_ == State::kContent) {
      const std::size_t end = std::min(text.find('<', at), text.size());
      events_.content(text.substr(at, end - at));
      steps_ += end - at;
      at = end;
      if (at == text.size()) break;
    }
    ++steps_;
    if (take(text[at])) ++at;
  }
  return events_.take();
}

std::vector<ToolEvent> TaggedToolParser::finish() {
  // White space and a separator after the last call are part of how calls are written.
  const bool after_a_call = state_ == State::kBetween && reader_.has_value();
  if (!after_a_call) events_.content(held_);
  held_.clear();
  state_ = State::kContent;
  return events_.take();
}

bool TaggedToolParser::take(char byte) {
  switch (state_) {
    case State::kBetween: return between(byte);
    case State::kContent:  // push() stops at a '<' only
      may_close_ = false;
      state_ = State::kTag;
      tag_ = dialect_.open_tag;
      matched_ = 1;
      held_ = byte;
      return true;
    case State::kTag: return in_tag(byte);
    case State::kBeginning:
      if (byte == '{') {
        begin_object();
        return in_object(byte);
      }
      if (!is_space(byte)) return not_a_call();
      held_ += byte;
      return true;
    case State::kObject: return in_object(byte);
  }
  return true;
}

bool TaggedToolParser::between(char byte) {
  if (byte == '{' && dialect_.bare_object) {
    begin_object();
    return in_object(byte);
  }
  if (byte == '<') {
    state_ = State::kTag;
    tag_ = dialect_.open_tag;
    matched_ = 1;
  } else if (may_separate_ && byte == dialect_.separator) {
    may_separate_ = false;
  } else if (!is_space(byte)) {
    return not_a_call();
  }
  held_ += byte;
  return true;
}

bool TaggedToolParser::in_tag(char byte) {
  if (matched_ == 1 && byte == '/' && may_close_) tag_ = dialect_.close_tag;
  if (byte != tag_[matched_]) return not_a_call();
  held_ += byte;
  if (++matched_ < tag_.size()) return true;
  if (tag_ == dialect_.open_tag) {
    state_ = State::kBeginning;
  } else {
    held_.clear();
    may_close_ = false;
    state_ = State::kBetween;
  }
  return true;
}

void TaggedToolParser::begin_object() {
  reader_.emplace(names_, dialect_.needs_arguments);
  state_ = State::kObject;
}

bool TaggedToolParser::in_object(char byte) {
  const ToolCallReader::State state = reader_->push(byte, events_);
  if (state == ToolCallReader::State::kBroken) {
    if (!reader_->announced() || dialect_.close_tag.empty()) return not_a_call();
    // The arguments stay as they are: made whole here, they would ask for something that the model
    // never asked for. What follows is content, but for the close tag.
    after_call();
    return false;
  }
  if (reader_->announced()) {
    held_.clear();
  } else {
    held_ += byte;
  }
  if (state == ToolCallReader::State::kDone) after_call();
  return true;
}

// What was held back is content, and so is the byte at hand unless a tag begins with it.
bool TaggedToolParser::not_a_call() {
  events_.content(held_);
  held_.clear();
  reader_.reset();
  state_ = State::kContent;
  return false;
}

void TaggedToolParser::after_call() {
  held_.clear();
  may_close_ = !dialect_.close_tag.empty();
  may_separate_ = dialect_.separator != '\0';
  state_ = State::kBetween;
}

}  // namespace liquidgemm::server
