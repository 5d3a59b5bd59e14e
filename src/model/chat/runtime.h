// What every operation of a render shares: the budgets, and the first error.
//
// An error stays: after it every evaluation returns at once with an undefined value, and the
// render reports it. So code between two checks needs no care, and loops ask failed().
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"
#include "model/chat/chat_template.h"
#include "model/chat/value.h"

namespace liquidgemm::chat {

// The template's text, and messages that point into it.
struct Source {
  std::string text;
  std::string where;  // the file it came from

  // "where:3:14: message in `{{ the construct }}`"; columns count characters, from 1.
  Status error(StatusCode code, std::size_t offset, std::string_view message) const;
};

class Runtime {
 public:
  Runtime(const Source& source, const TemplateLimits& limits);

  // Takes `count` steps from the budget. False when the render must stop.
  bool step(std::int64_t count = 1);
  // The steps of reading or writing that many bytes of text.
  bool charge(std::size_t bytes) { return step(static_cast<std::int64_t>(bytes / 128) + 1); }
  bool failed() const { return !status_.ok(); }
  const Status& status() const { return status_; }
  const TemplateLimits& limits() const { return limits_; }

  // The place that the next error will name.
  void at(std::size_t offset) { offset_ = offset; }
  std::size_t offset() const { return offset_; }

  // Each records the error if it is the first, and returns an undefined value.
  Value fail(std::string message);
  Value fail(StatusCode code, std::string message);
  Value fail_undefined(const Value& value) { return fail(value.undefined_message()); }

  // False, with an error, when a text of that size would break the limit.
  bool fits(std::size_t bytes);

  // Makers of values that keep the budgets.
  Value text(std::string text, bool markup = false);
  Value list(std::vector<Value> items) { return sequence(Kind::kList, std::move(items)); }
  Value sequence(Kind kind, std::vector<Value> items, const char* label = "");
  bool set(Dict& dict, Value key, Value value);
  Value dict(std::shared_ptr<Dict> dict);

  // One level deeper into the interpreter's own recursion; false when that is too deep.
  bool enter();
  void leave() { --depth_; }

 private:
  const Source& source_;
  const TemplateLimits limits_;
  const std::chrono::steady_clock::time_point deadline_;
  std::int64_t steps_ = 0;
  std::int64_t next_clock_check_ = 0;
  int depth_ = 0;
  std::size_t offset_ = 0;
  Status status_;
};

// Leaves when it goes out of scope, if it could enter.
class Depth {
 public:
  explicit Depth(Runtime& runtime) : runtime_(runtime), entered_(runtime.enter()) {}
  ~Depth() {
    if (entered_) runtime_.leave();
  }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;
  bool ok() const { return entered_; }

 private:
  Runtime& runtime_;
  const bool entered_;
};

// Walks over a value as Python's iter() does: a string by character, a dict by key.
class Iterator {
 public:
  // When the value cannot be walked over, records an error and yields nothing.
  Iterator(Runtime& runtime, Value value);
  static bool iterable(const Value& value);
  // False at the end, and after an error.
  bool next(Value* item);

 private:
  Runtime& runtime_;
  Value value_;
  std::size_t index_ = 0;
};

// Everything that is left to walk over.
std::vector<Value> collect(Runtime& runtime, const Value& value);

}  // namespace liquidgemm::chat
