// One call as a model writes it: a JSON object with a name and arguments.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "server/json_scanner.h"
#include "server/tool_parser.h"

namespace liquidgemm::server {

// Events in order; text of the same kind that follows on itself becomes one event.
class ToolEvents {
 public:
  void content(std::string_view text);
  void call(std::string name);
  void arguments(std::string_view text);
  std::vector<ToolEvent> take() { return std::exchange(events_, {}); }

 private:
  void add(ToolEvent::Kind kind, std::size_t index, std::string_view text);

  std::vector<ToolEvent> events_;
  std::size_t calls_ = 0;
};

// {"name": "f", "arguments": {...}}; "parameters" is another word for "arguments". Other members
// are passed over, and of a member that is there twice the first counts.
//
// The call is announced as soon as it is sure to be one: the name is that of a function and its
// arguments begin to be an object. From then on they are told as they come. Arguments that stand
// before the name are told when the whole object has been read.
class ToolCallReader {
 public:
  enum class State { kReading, kDone, kBroken };

  // `names` outlives the reader. `needs_arguments`: {"name": "f"} alone is no call; otherwise its
  // arguments are "{}".
  ToolCallReader(const std::unordered_set<std::string>& names, bool needs_arguments)
      : names_(names), needs_arguments_(needs_arguments) {}

  // kBroken: with this byte it is no call, or no longer one.
  State push(char byte, ToolEvents& events);
  bool announced() const { return announced_; }

 private:
  enum class Member { kOther, kName, kArguments };

  State on_token(JsonScanner::Token token, ToolEvents& events);
  State on_key();
  State on_name();
  State on_end(ToolEvents& events);
  void announce(ToolEvents& events);

  const std::unordered_set<std::string>& names_;
  bool needs_arguments_;
  JsonScanner scanner_;
  Member member_ = Member::kOther;  // whose value is being read, at depth 1
  bool recording_ = false;          // into quoted_
  std::string quoted_;              // a key, or the value of "name", as it was written
  std::string name_;
  bool has_name_ = false;
  bool has_arguments_ = false;
  bool in_arguments_ = false;
  bool announced_ = false;
  std::string arguments_;  // that stand before the name
};

}  // namespace liquidgemm::server
