// Calls between tags, or at the beginning of an answer: what Hermes and Llama 3 have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "server/tool_call_reader.h"
#include "server/tool_parser.h"

namespace liquidgemm::server {

struct ToolDialect {
  // '<' stands in a tag at its beginning only, so no two matches can overlap.
  std::string_view open_tag = {};
  std::string_view close_tag = {};  // may be missing after a call; empty: there is none
  bool bare_object = false;      // a call needs no tag at the answer's beginning and after a call
  char separator = '\0';         // may stand between two calls
  bool needs_arguments = false;  // without them it is no call
};

// Every byte is looked at when it comes, and once more when it ends what it does not belong to.
class TaggedToolParser : public ToolParser {
 public:
  TaggedToolParser(const ToolDialect& dialect, std::vector<std::string> names);

  std::vector<ToolEvent> push(std::string_view text) override;
  std::vector<ToolEvent> finish() override;

  // How many bytes were looked at so far; a test counts them to see that the work is linear.
  std::uint64_t steps() const { return steps_; }

 private:
  enum class State {
    kBetween,    // only white space since the beginning, or since the last call
    kContent,    // text of the answer
    kTag,        // in what may become a tag
    kBeginning,  // of a call: white space after the open tag
    kObject,     // in what may become a call, or has become one
  };

  // False: the byte ended something and is to be looked at again.
  bool take(char byte);
  bool between(char byte);
  bool in_tag(char byte);
  bool in_object(char byte);
  void begin_object();
  bool not_a_call();
  void after_call();

  ToolDialect dialect_;
  std::unordered_set<std::string> names_;
  State state_ = State::kBetween;
  bool may_close_ = false;     // the last call's close tag may still come
  bool may_separate_ = false;  // the separator may still come
  std::string held_;           // not told yet: it is content unless it belongs to a call
  std::string_view tag_;       // the tag that may be coming
  std::size_t matched_ = 0;    // bytes of it
  std::optional<ToolCallReader> reader_;
  ToolEvents events_;
  std::uint64_t steps_ = 0;
};

}  // namespace liquidgemm::server
