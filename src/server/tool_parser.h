// Tool calls in a model's answer, found while the answer is still growing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::server {

// How a model writes a call: Hermes and Qwen (<tool_call>{"name": ..., "arguments": ...}
// </tool_call>), or Llama 3 (a bare JSON object with "name" and "parameters", or after
// <|python_tag|>).
enum class ToolFormat { kNone, kHermes, kLlama3 };

// "none", "hermes", "llama3_json" as vLLM names them; "auto" looks at the chat template.
Result<ToolFormat> parse_tool_format(std::string_view name, std::string_view chat_template);

// A piece of the answer, in order. Exactly one of the three is meant.
struct ToolEvent {
  enum class Kind { kContent, kCall, kArguments };
  Kind kind = Kind::kContent;
  std::size_t index = 0;  // of the call, from 0
  std::string name;       // kCall: the function's name
  std::string text;       // kContent: text of the answer; kArguments: more of the JSON arguments
};

// Linear in the answer's length, bounded by it in memory. What looked like a call and is none comes
// out as content, unchanged: no text is lost.
//
// Arguments are told as the model writes them, byte for byte; together they are one JSON object. If
// the model ends or leaves JSON in the middle of them, they stay incomplete and thus invalid, so
// that nobody runs a call that was never finished; what follows is content.
class ToolParser {
 public:
  virtual ~ToolParser() = default;
  virtual std::vector<ToolEvent> push(std::string_view text) = 0;
  virtual std::vector<ToolEvent> finish() = 0;
};

// `names`: the functions of the request; a call to another is content. kNone: null.
std::unique_ptr<ToolParser> make_tool_parser(ToolFormat format, std::vector<std::string> names);

}  // namespace liquidgemm::server
