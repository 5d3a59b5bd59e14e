#include "model/chat/chat_template.h"

#include <new>
#include <utility>

#include "base/status_macros.h"
#include "model/chat/interpreter.h"
#include "model/chat/lexer.h"
#include "model/chat/parser.h"
#include "model/chat/text.h"

namespace liquidgemm {

struct ChatTemplate::Impl {
  std::string original;
  chat::Source source;
  chat::Body body;
  TemplateLimits limits;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string source, const std::string& where,
                                         const TemplateLimits& limits) {
  if (source.size() > limits.output_bytes) {
    return resource_exhausted(where + ": the chat template has " + std::to_string(source.size()) +
                              " bytes, at most " + std::to_string(limits.output_bytes) +
                              " are allowed");
  }
  if (!chat::is_utf8(source)) return corrupt(where + ": the chat template is not UTF-8");
  try {
    auto impl = std::make_shared<Impl>();
    impl->source = {chat::normalize_newlines(source), where};
    impl->original = std::move(source);
    impl->limits = limits;
    LIQUIDGEMM_ASSIGN_OR_RETURN(std::vector<chat::Token> tokens, chat::tokenize(impl->source));
    chat::Parser parser(impl->source, std::move(tokens), limits.depth);
    LIQUIDGEMM_ASSIGN_OR_RETURN(impl->body, parser.parse());
    return ChatTemplate(std::move(impl));
  } catch (const std::bad_alloc&) {
    return resource_exhausted(where + ": not enough memory for the chat template");
  }
}

Result<std::string> ChatTemplate::render(const json::Object& variables) const {
  try {
    return chat::Interpreter(impl_->source, impl_->limits).render(impl_->body, variables);
  } catch (const std::bad_alloc&) {
    return resource_exhausted(impl_->source.where + ": not enough memory to render the template");
  }
}

const std::string& ChatTemplate::source() const { return impl_->original; }

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

// Cuts what the template puts behind the last message, as Hugging Face does: after the message's
// text, with its trailing space where the template keeps that.
Result<std::string> cut_after_final_message(std::string text, const json::Array& messages) {
  const json::Value* content = nullptr;
  if (!messages.empty() && messages.back().is_object()) {
    content = messages.back().get_object().if_contains("content");
  }
  const std::string_view final_message =
      content != nullptr && content->is_string() ? std::string_view(content->get_string()) : "";
  const std::string_view body = trimmed(final_message);
  if (body.empty()) {
    return invalid_argument("continue_final_message: the last message has no text to continue");
  }
  const std::size_t at = text.rfind(body);
  if (at == std::string::npos) {
    return invalid_argument(
        "continue_final_message: the chat template changes or leaves out the last message");
  }
  const std::string_view tail =
      final_message.substr(static_cast<std::size_t>(body.data() - final_message.data()));
  const bool kept = std::string_view(text).substr(at, tail.size()) == tail;
  text.resize(at + (kept ? tail.size() : body.size()));
  return text;
}

}  // namespace

Result<std::string> render_chat(const ChatTemplate& chat_template, const ChatPrompt& prompt,
                                const std::string& bos_token, const std::string& eos_token) {
  // The same names, with the same values when unused, as Hugging Face's call passes.
  json::Object variables = prompt.variables;
  variables["messages"] = prompt.messages;
  variables["add_generation_prompt"] = prompt.add_generation_prompt;
  variables["bos_token"] = bos_token;
  variables["eos_token"] = eos_token;
  variables["tools"] = prompt.tools;
  variables["documents"] = nullptr;
  LIQUIDGEMM_ASSIGN_OR_RETURN(std::string text, chat_template.render(variables));
  if (!prompt.continue_final_message) return text;
  return cut_after_final_message(std::move(text), prompt.messages);
}

Result<std::string> render_chat(const ChatTemplate& chat_template,
                                const std::vector<ChatMessage>& messages,
                                bool add_generation_prompt, const std::string& bos_token,
                                const std::string& eos_token) {
  ChatPrompt prompt;
  prompt.add_generation_prompt = add_generation_prompt;
  for (const ChatMessage& message : messages) {
    prompt.messages.push_back(json::Object{{"role", message.role}, {"content", message.content}});
  }
  return render_chat(chat_template, prompt, bos_token, eos_token);
}

}  // namespace liquidgemm
