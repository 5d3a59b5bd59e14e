// Any text as a model's answer. The first byte chooses how calls are written (even: Hermes, odd:
// Llama 3), the second how the text is cut into pieces; however it is cut, the events are the same
// and account for the text.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "server/json_scanner.h"
#include "server/tool_parser.h"

namespace {

using liquidgemm::server::JsonScanner;
using liquidgemm::server::ToolEvent;
using liquidgemm::server::ToolFormat;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Adds events, joining neighbours that one piece would have told at once.
void join(const std::vector<ToolEvent>& events, std::vector<ToolEvent>& all) {
  for (const ToolEvent& event : events) {
    const bool more = event.kind != ToolEvent::Kind::kCall && !all.empty() &&
                      all.back().kind == event.kind && all.back().index == event.index;
    if (more) {
      all.back().text += event.text;
    } else {
      all.push_back(event);
    }
  }
}

std::vector<ToolEvent> parsed(ToolFormat format, std::string_view text, std::uint32_t cuts) {
  const auto parser = liquidgemm::server::make_tool_parser(format, {"f", "get_weather"});
  std::vector<ToolEvent> events;
  while (!text.empty()) {
    cuts = cuts * 1664525u + 1013904223u;
    const std::size_t size = std::min<std::size_t>(cuts >> 28, text.size());
    join(parser->push(text.substr(0, size)), events);
    text.remove_prefix(size);
  }
  join(parser->finish(), events);
  return events;
}

std::vector<ToolEvent> parsed_whole(ToolFormat format, std::string_view text) {
  const auto parser = liquidgemm::server::make_tool_parser(format, {"f", "get_weather"});
  std::vector<ToolEvent> events;
  join(parser->push(text), events);
  join(parser->finish(), events);
  return events;
}

void check_arguments(std::string_view arguments) {
  JsonScanner scanner;
  require(!arguments.empty() && arguments.front() == '{', "arguments are no object");
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    require(scanner.push(arguments[i]) != JsonScanner::Token::kError, "arguments are no JSON");
    require(scanner.depth() > 0 || i + 1 == arguments.size(), "arguments go on after their end");
  }
}

// Everything told stands in the text, in order; nothing but a call's own syntax is left out.
void check_account(std::string_view text, const std::vector<ToolEvent>& events) {
  std::size_t at = 0;
  std::size_t calls = 0;
  bool may_skip = false;  // after a call's arguments comes the end of its syntax
  for (const ToolEvent& event : events) {
    switch (event.kind) {
      case ToolEvent::Kind::kContent: {
        require(!event.text.empty(), "empty content");
        const std::size_t found = text.find(event.text, at);
        require(found != text.npos && (may_skip || found == at), "text was lost before content");
        at = found + event.text.size();
        may_skip = false;
        break;
      }
      case ToolEvent::Kind::kCall:
        require(event.index == calls++, "calls are not counted in order");
        require(event.name == "f" || event.name == "get_weather", "a call to nobody");
        may_skip = true;
        break;
      case ToolEvent::Kind::kArguments: {
        require(event.index + 1 == calls, "arguments of no call");
        check_arguments(event.text);
        const std::size_t found = text.find(event.text, at);
        require(found != text.npos || event.text == "{}", "arguments were made up");
        if (found != text.npos && event.text != "{}") at = found + event.text.size();
        break;
      }
    }
  }
  if (calls == 0) require(at == text.size(), "text was lost");
  if (!events.empty() && events.back().kind == ToolEvent::Kind::kContent) {
    require(text.ends_with(events.back().text), "text was lost at the end");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const ToolFormat format = data[0] % 2 == 0 ? ToolFormat::kHermes : ToolFormat::kLlama3;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::vector<ToolEvent> whole = parsed_whole(format, text);
  const std::vector<ToolEvent> pieces = parsed(format, text, data[1]);
  require(whole.size() == pieces.size(), "pieces give other events");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    require(whole[i].kind == pieces[i].kind && whole[i].index == pieces[i].index &&
                whole[i].name == pieces[i].name && whole[i].text == pieces[i].text,
            "pieces give another event");
  }
  check_account(text, whole);
  return 0;
}
