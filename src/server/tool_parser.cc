#include "server/tool_parser.h"

#include <utility>

#include "server/tagged_tool_parser.h"

namespace liquidgemm::server {
namespace {

constexpr ToolDialect kHermes{.open_tag = "<tool_call>", .close_tag = "</tool_call>"};

// Any JSON object may stand at the beginning of an answer, so a call is not guessed from less than
// a name and parameters.
constexpr ToolDialect kLlama3{
    .open_tag = "<|python_tag|>", .bare_object = true, .separator = ';', .needs_arguments = true};

// By what the template tells the model to write.
ToolFormat format_of(std::string_view chat_template) {
  const auto has = [&](std::string_view part) {
    return chat_template.find(part) != std::string_view::npos;
  };
  // Newer coder models put another language between the same tags: <function=f><parameter=...>.
  if (has("<tool_call>") && !has("<function=")) return ToolFormat::kHermes;
  if (has("<|python_tag|>")) return ToolFormat::kLlama3;
  return ToolFormat::kNone;
}

}  // namespace

Result<ToolFormat> parse_tool_format(std::string_view name, std::string_view chat_template) {
  if (name == "none") return ToolFormat::kNone;
  if (name == "hermes") return ToolFormat::kHermes;
  if (name == "llama3_json") return ToolFormat::kLlama3;
  if (name == "auto") return format_of(chat_template);
  return invalid_argument("tool call parser: expected auto, hermes, llama3_json or none, found \"" +
                          std::string(name.substr(0, 40)) + "\"");
}

std::unique_ptr<ToolParser> make_tool_parser(ToolFormat format, std::vector<std::string> names) {
  switch (format) {
    case ToolFormat::kNone: return nullptr;
    case ToolFormat::kHermes: return std::make_unique<TaggedToolParser>(kHermes, std::move(names));
    case ToolFormat::kLlama3: return std::make_unique<TaggedToolParser>(kLlama3, std::move(names));
  }
  return nullptr;
}

}  // namespace liquidgemm::server
