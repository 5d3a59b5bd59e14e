// Tool calls that a grammar has forced: the answer holds nothing else.
#pragma once

#include <memory>
#include <string>

#include "server/tool_parser.h"

namespace liquidgemm::server {

// The whole answer is the arguments of a call to `name`.
std::unique_ptr<ToolParser> make_named_call_parser(std::string name);
// The answer is an array of {"name", "parameters"}; each call comes out when it is complete. What
// is left of one that was cut off comes out as content.
std::unique_ptr<ToolParser> make_call_list_parser();

}  // namespace liquidgemm::server
