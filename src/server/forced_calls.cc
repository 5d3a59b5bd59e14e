#include "server/forced_calls.h"

#include <utility>

#include "base/json.h"

namespace liquidgemm::server {
namespace {

class NamedCallParser : public ToolParser {
 public:
  explicit NamedCallParser(std::string name) : name_(std::move(name)) {}

  std::vector<ToolEvent> push(std::string_view text) override {
    std::vector<ToolEvent> events;
    if (text.empty()) return events;
    if (!std::exchange(began_, true)) {
      events.push_back({.kind = ToolEvent::Kind::kCall, .name = name_, .text = {}});
    }
    events.push_back({.kind = ToolEvent::Kind::kArguments, .name = {}, .text = std::string(text)});
    return events;
  }
  std::vector<ToolEvent> finish() override { return {}; }

 private:
  const std::string name_;
  bool began_ = false;
};

class CallListParser : public ToolParser {
 public:
  std::vector<ToolEvent> push(std::string_view text) override {
    std::vector<ToolEvent> events;
    for (const char c : text) {
      if (!element_.empty()) {
        element_ += c;
      } else if (c == '{') {
        element_ = c;
      }
      scan(c);
      if (element_.empty() || depth_ > 1 || in_string_) continue;
      end_element(events);
    }
    return events;
  }

  std::vector<ToolEvent> finish() override {
    if (element_.empty()) return {};
    return {{.kind = ToolEvent::Kind::kContent, .name = {}, .text = std::exchange(element_, {})}};
  }

 private:
  // The depth is 1 inside the array.
  void scan(char c) {
    if (in_string_) {
      if (std::exchange(escaped_, false)) return;
      escaped_ = c == '\\';
      if (c == '"') in_string_ = false;
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      --depth_;
    }
  }

  void end_element(std::vector<ToolEvent>& events) {
    const std::string text = std::exchange(element_, {});
    const auto parsed = json::parse(text, "call");
    const json::Object* call = parsed.ok() ? parsed->if_object() : nullptr;
    const json::Value* name = call == nullptr ? nullptr : call->if_contains("name");
    const json::Value* parameters = call == nullptr ? nullptr : call->if_contains("parameters");
    if (name == nullptr || !name->is_string() || parameters == nullptr) {
      events.push_back({.kind = ToolEvent::Kind::kContent, .name = {}, .text = text});
      return;
    }
    events.push_back({.kind = ToolEvent::Kind::kCall,
                      .index = calls_,
                      .name = std::string(name->get_string()),
                      .text = {}});
    events.push_back({.kind = ToolEvent::Kind::kArguments,
                      .index = calls_++,
                      .name = {},
                      .text = json::dump(*parameters)});
  }

  std::string element_;  // the call that is growing, from its brace
  std::int64_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  std::size_t calls_ = 0;
};

}  // namespace

std::unique_ptr<ToolParser> make_named_call_parser(std::string name) {
  return std::make_unique<NamedCallParser>(std::move(name));
}

std::unique_ptr<ToolParser> make_call_list_parser() { return std::make_unique<CallListParser>(); }

}  // namespace liquidgemm::server
