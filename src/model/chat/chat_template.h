// Chat templates: the subset of Jinja2 that published models use, interpreted with budgets.
//
// A template is a program that came with a download and runs on user input. It can reach nothing
// but the values given to it, and it stops at a limit instead of running away.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "liquidgemm/status.h"

namespace liquidgemm {

struct TemplateLimits {
  std::int64_t steps = 1'000'000;
  int depth = 128;
  std::size_t output_bytes = 4u << 20;  // also the most that any one string value may hold
  int milliseconds = 100;
};

class ChatTemplate {
 public:
  // Parses with the options that Hugging Face uses (trim_blocks and lstrip_blocks on, loop
  // controls). A construct outside the subset is an error that shows it, with line and column.
  static Result<ChatTemplate> parse(std::string source, const std::string& where,
                                    const TemplateLimits& limits = {});

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `variables` are the template's globals: messages, add_generation_prompt, bos_token,
  // eos_token, tools, ... Functions raise_exception, strftime_now, range, namespace, dict exist.
  // A template's raise_exception is kInvalidArgument with its message.
  Result<std::string> render(const json::Object& variables) const;

  const std::string& source() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

struct ChatMessage {
  std::string role;
  std::string content;
};

// All that decides on a prompt, as Hugging Face's apply_chat_template takes it.
struct ChatPrompt {
  // Objects: role and content, an assistant's tool_calls with their arguments as objects, a tool's
  // tool_call_id and name.
  json::Array messages;
  json::Value tools = nullptr;  // a list, or null
  json::Object variables;       // more for the template; the names below and above win
  bool add_generation_prompt = true;
  // The last message is the beginning of the answer: the text ends with its content.
  bool continue_final_message = false;
};
Result<std::string> render_chat(const ChatTemplate& chat_template, const ChatPrompt& prompt,
                                const std::string& bos_token, const std::string& eos_token);

// The usual call: messages and the special tokens' text.
Result<std::string> render_chat(const ChatTemplate& chat_template,
                                const std::vector<ChatMessage>& messages,
                                bool add_generation_prompt, const std::string& bos_token,
                                const std::string& eos_token);

}  // namespace liquidgemm
