#include "model/chat/runtime.h"

#include <algorithm>

#include "model/chat/text.h"

namespace liquidgemm::chat {
namespace {

constexpr std::int64_t kStepsBetweenClockChecks = 512;
constexpr std::size_t kShownBytes = 72;

// The interpreter recurses a few levels for each level that a template nests.
constexpr int kLevelsPerDepth = 4;

// The tag or expression around `offset`, shortened to what fits on a line.
std::string_view construct_at(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const std::size_t line = offset == 0 ? 0 : text.rfind('\n', offset - 1) + 1;
  std::size_t begin = line;
  for (const std::string_view open : {"{{", "{%", "{#"}) {
    const std::size_t found = text.rfind(open, offset);
    if (found != std::string_view::npos && found >= line) begin = std::max(begin, found);
  }
  if (offset - begin > kShownBytes / 2) begin = offset;
  std::size_t end = std::min(text.find('\n', begin), text.size());
  for (const std::string_view close : {"}}", "%}", "#}"}) {
    const std::size_t found = text.find(close, offset);
    if (found != std::string_view::npos) end = std::min(end, found + close.size());
  }
  end = std::min(end, begin + kShownBytes);
  const auto continuation = [&](std::size_t i) {
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  while (end > begin && continuation(end)) --end;
  return text.substr(begin, end - begin);
}

}  // namespace

Status Source::error(StatusCode code, std::size_t offset, std::string_view message) const {
  offset = std::min(offset, text.size());
  const std::string_view before = std::string_view(text).substr(0, offset);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  const std::size_t column = count_code_points(before.substr(line_start)) + 1;
  std::string full = where + ":" + std::to_string(lines + 1) + ":" + std::to_string(column) + ": " +
                     std::string(message);
  const std::string_view construct = construct_at(text, offset);
  if (!construct.empty()) full += " in `" + std::string(construct) + "`";
  return {code, std::move(full)};
}

Runtime::Runtime(const Source& source, const TemplateLimits& limits)
    : source_(source),
      limits_(limits),
      deadline_(std::chrono::steady_clock::now() + std::chrono::milliseconds(limits.milliseconds)) {
}

bool Runtime::step(std::int64_t count) {
  if (failed()) return false;
  steps_ += count;
  if (steps_ > limits_.steps) {
    fail(StatusCode::kResourceExhausted,
         "the template took more than " + std::to_string(limits_.steps) + " steps");
    return false;
  }
  if (steps_ >= next_clock_check_) {
    next_clock_check_ = steps_ + kStepsBetweenClockChecks;
    if (std::chrono::steady_clock::now() > deadline_) {
      fail(StatusCode::kResourceExhausted,
           "the template took more than " + std::to_string(limits_.milliseconds) + " milliseconds");
      return false;
    }
  }
  return true;
}

Value Runtime::fail(std::string message) {
  return fail(StatusCode::kInvalidArgument, std::move(message));
}

Value Runtime::fail(StatusCode code, std::string message) {
  if (status_.ok()) status_ = source_.error(code, offset_, message);
  return {};
}

bool Runtime::fits(std::size_t bytes) {
  if (failed()) return false;
  if (bytes > limits_.output_bytes) {
    fail(StatusCode::kResourceExhausted, "the template made a text of more than " +
                                             std::to_string(limits_.output_bytes) + " bytes");
    return false;
  }
  return charge(bytes);
}

Value Runtime::text(std::string text, bool markup) {
  if (!fits(text.size())) return {};
  return markup ? Value::markup(std::move(text)) : Value::string(std::move(text));
}

Value Runtime::sequence(Kind kind, std::vector<Value> items, const char* label) {
  if (!step(static_cast<std::int64_t>(items.size()) + 1)) return {};
  Value value = Value::sequence(kind, std::move(items), label);
  if (value.depth() > limits_.depth) {
    return fail(StatusCode::kResourceExhausted,
                "a value nests deeper than " + std::to_string(limits_.depth) + " levels");
  }
  return value;
}

bool Runtime::set(Dict& dict, Value key, Value value) {
  if (!Dict::hashable(key)) {
    fail(std::string("unhashable type: '") + key.type_name() + "' as the key of a dict");
    return false;
  }
  if (key.is(Kind::kTuple) && !step(static_cast<std::int64_t>(key.items().size()))) return false;
  if (key.is(Kind::kString) && !charge(key.as_string().size())) return false;
  if (!step(2)) return false;
  dict.set(std::move(key), std::move(value));
  return true;
}

Value Runtime::dict(std::shared_ptr<Dict> dict) {
  if (failed()) return {};
  if (dict->depth > limits_.depth) {
    return fail(StatusCode::kResourceExhausted,
                "a value nests deeper than " + std::to_string(limits_.depth) + " levels");
  }
  return Value::dict(std::move(dict));
}

bool Runtime::enter() {
  if (failed()) return false;
  if (depth_ >= kLevelsPerDepth * limits_.depth) {
    fail(StatusCode::kResourceExhausted, "the template nests or recurses too deeply");
    return false;
  }
  ++depth_;
  return true;
}

Iterator::Iterator(Runtime& runtime, Value value) : runtime_(runtime), value_(std::move(value)) {
  if (iterable(value_)) return;
  runtime_.fail(std::string("'") + value_.type_name() + "' object is not iterable");
  value_ = Value();
}

bool Iterator::iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kGenerator:
    case Kind::kDict:
    case Kind::kRange: return true;
    default: return false;
  }
}

bool Iterator::next(Value* item) {
  if (!runtime_.step()) return false;
  switch (value_.kind()) {
    case Kind::kString: {
      const std::string& text = value_.as_string();
      if (index_ >= text.size()) return false;
      const std::size_t begin = index_;
      next_code_point(text, index_);
      *item = Value::string(text.substr(begin, index_ - begin));
      return true;
    }
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView: {
      if (index_ >= value_.items().size()) return false;
      *item = value_.items()[index_++];
      return true;
    }
    case Kind::kGenerator: {
      const Sequence& generator = value_.as_sequence();
      if (generator.next >= generator.items.size()) return false;
      *item = generator.items[generator.next++];
      return true;
    }
    case Kind::kDict: {
      const auto& entries = value_.as_dict().entries;
      if (index_ >= entries.size()) return false;
      *item = entries[index_++].first;
      return true;
    }
    case Kind::kRange: {
      const Range& range = value_.as_range();
      if (index_ >= static_cast<std::size_t>(range.size())) return false;
      *item = Value::integer(range.start + static_cast<std::int64_t>(index_++) * range.step);
      return true;
    }
    default: return false;
  }
}

std::vector<Value> collect(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  Iterator iterator(runtime, value);
  Value item;
  while (iterator.next(&item)) items.push_back(std::move(item));
  return items;
}

}  // namespace liquidgemm::chat
